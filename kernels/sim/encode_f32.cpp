// Half of what the tests of gcn simulate: the rest of the simulator is optimised less (see sim.go).
#pragma GCC optimize("O2")
#include "../graph/encode_f32.cu"
