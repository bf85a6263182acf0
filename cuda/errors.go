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
// After it the GPU's context is dead and every call fails.
func (e driverError) asynchronous() bool {
	switch e {
	case C.CUDA_ERROR_ECC_UNCORRECTABLE, C.CUDA_ERROR_ILLEGAL_ADDRESS, C.CUDA_ERROR_LAUNCH_TIMEOUT, C.CUDA_ERROR_ASSERT,
		C.CUDA_ERROR_HARDWARE_STACK_ERROR, C.CUDA_ERROR_ILLEGAL_INSTRUCTION, C.CUDA_ERROR_MISALIGNED_ADDRESS,
		C.CUDA_ERROR_INVALID_ADDRESS_SPACE, C.CUDA_ERROR_INVALID_PC, C.CUDA_ERROR_LAUNCH_FAILED:
		return true
	}
	return false
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
