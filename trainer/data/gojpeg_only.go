//go:build !turbojpeg

package data

// Decoder names the JPEG decoder of this build.
const Decoder = "Go image/jpeg"

func newJPEG() (jpegDecoder, error) { return goJPEG{}, nil }
