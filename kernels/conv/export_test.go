package conv

// Winograd tells whether the convolution goes by Winograd's algorithm on the CPU.
func (c Conv) Winograd() bool { return c.defaults().winograd() }
