// The argument structs of probe.cu; device_test.go has them too.
#pragma once

enum { PROBE_STATIC = 4096 }; // bytes of static shared memory of probe_reverse_static

typedef struct {
	float *y;
	const float *x;
	float a;
	int n;
} probe_saxpy_args;

typedef struct {
	float *x;
	int n;
} probe_reverse_args;

typedef struct {
	float *nowhere;
} probe_stray_args;
