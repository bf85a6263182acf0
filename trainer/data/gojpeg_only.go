//go:build !turbojpeg

package data

import "errors"

// Decoder names the JPEG decoder of this build.
const Decoder = "Go image/jpeg"

func newJPEG() (jpegDecoder, error) { return goJPEG{}, nil }

func newEncoder(int) (jpegEncoder, string, error) {
	return nil, "", errors.New("this program was built without libjpeg-turbo, which images are encoded with: --raw " +
		"needs no encoder, and what another build has packed is read here")
}
