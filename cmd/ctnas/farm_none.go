//go:build nofarm

package main

import "github.com/spf13/cobra"

// farmSettings are none: this program was built without farms.
type farmSettings struct{}

func (a *app) farmed(cmd *cobra.Command) *cobra.Command { return cmd }

func (a *app) openFarm(device, string) (away, error) { return away{}, nil }

func farmCommands(*app) []*cobra.Command { return nil }
