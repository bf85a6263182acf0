// The argument structs of probe.cu; device_test.go has them too.
#pragma once

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
