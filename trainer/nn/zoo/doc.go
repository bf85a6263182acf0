// Package zoo builds the networks that ctnas knows by name or by a space's description. Sources stand with each
// network.
package zoo
