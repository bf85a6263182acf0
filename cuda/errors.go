//go:build cuda

package cuda

// #include "driver.h"
import "C"

import (
	"errors"
	"fmt"
	"reflect"
)

// driverError is a failed call of the driver.
type driverError C.CUresult

func (e driverError) Error() string {
	var name, text *C.char
	C.ctn_error_text(C.CUresult(e), &name, &text)
	if name == nil || text == nil {
		return fmt.Sprintf("error %d of the driver", e)
	}
	return fmt.Sprintf("%s (%s)", C.GoString(text), C.GoString(name))
}

// asynchronous tells an error of earlier work on the GPU, which any later call reports, from one of the call itself.
// After it the GPU's context is dead and every call fails. Each driver knows more ways for a GPU to fail than the one
// before, so what is not known to be the call's own counts as earlier work's.
func (e driverError) asynchronous() bool {
	switch e {
	case C.CUDA_ERROR_INVALID_VALUE, C.CUDA_ERROR_OUT_OF_MEMORY, C.CUDA_ERROR_NOT_INITIALIZED,
		C.CUDA_ERROR_DEINITIALIZED, C.CUDA_ERROR_NO_DEVICE, C.CUDA_ERROR_INVALID_DEVICE, C.CUDA_ERROR_INVALID_IMAGE,
		C.CUDA_ERROR_INVALID_CONTEXT, C.CUDA_ERROR_NO_BINARY_FOR_GPU, C.CUDA_ERROR_INVALID_PTX,
		C.CUDA_ERROR_UNSUPPORTED_PTX_VERSION, C.CUDA_ERROR_JIT_COMPILER_NOT_FOUND,
		C.CUDA_ERROR_JIT_COMPILATION_DISABLED, C.CUDA_ERROR_INVALID_SOURCE, C.CUDA_ERROR_INVALID_HANDLE,
		C.CUDA_ERROR_ILLEGAL_STATE, C.CUDA_ERROR_NOT_FOUND, C.CUDA_ERROR_NOT_READY,
		C.CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, C.CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, C.CUDA_ERROR_NOT_PERMITTED,
		C.CUDA_ERROR_NOT_SUPPORTED, C.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
		C.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, C.CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
		C.CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD:
		return false
	}
	return true
}

// check turns a code of driver.c into an error.
func check(code C.CUresult) error {
	if code == C.CUDA_SUCCESS {
		return nil
	}
	return driverError(code)
}

// known turns an error of cu into ours. cu's type is not exported; its value is the driver's code.
func known(err error) error {
	if v := reflect.ValueOf(err); err != nil && v.CanInt() {
		return driverError(v.Int())
	}
	return err
}

// is tells whether the driver gave that code.
func is(err error, code driverError) bool {
	var e driverError
	return errors.As(err, &e) && e == code
}
