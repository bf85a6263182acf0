package data

// Subset is some of the images, by their places, in that order.
func (s *Set) Subset(places []int) *Set { return s.subset(places) }
