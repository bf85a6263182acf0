package zoo

// subNetworks are the networks of the zoo that are of once-for-all's space.
var subNetworks = map[string]*OnceForAll{
	"ofa_230m": &ofa230M, "ofa_389m": &ofa389M, "ofa_482m": &ofa482M, "ofa_595m": &ofa595M,
	"pnag_cpu_30": &pnagCPU30, "pnag_cpu_40": &pnagCPU40, "pnag_gpu_90": &pnagGPU90,
	"pnag_mobile_110": &pnagMobile110, "pnag_mobile_140": &pnagMobile140, "pnag_mobile_200": &pnagMobile200,
}

// SubNetwork is what a network of the zoo is in once-for-all's space, with the side of its images; false where it is
// not of that.
func SubNetwork(name string) (o OnceForAll, side int, ok bool) {
	found := subNetworks[name]
	if found == nil {
		return o, 0, false
	}
	return *found, lookup(name).side, true
}
