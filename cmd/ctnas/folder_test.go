package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search"
)

// folderLines are lines of all commands that write a run's folder, which they make or find in dir.
func folderLines(t *testing.T, labels, dir string) map[string][]string {
	return map[string][]string{
		"search":    {"search", "--labels", labels, "--budget", "16", "--per-round", "8", "--steps", "5", "--iterations", "5", "--out", dir},
		"evolution": {"search", "--labels", labels, "--budget", "16", "--method", "evolution", "--out", dir},
		"compare":   {"compare", "--labels", labels, "--budget", "16", "--methods", "random", "--seeds", "1", "--out", dir},
		"train":     {"train", "nasbench101:3:101:0", "--data", "imagenet:" + tinyImages(t), "--epochs", "1", "--batch", "10", "--resolution", "8", "--channels", "8", "--stacks", "1", "--modules", "1", "--out", dir},
	}
}

// Of two processes in one folder the second is refused, by the name of the first, and leaves everything as it is.
func TestOneProcessAFolder(t *testing.T) {
	labels := "table:" + searchTable(t)
	for name, line := range folderLines(t, labels, "") {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			line[len(line)-1] = dir
			lock, err := files.Lock(dir, "ctnas of somebody else")
			require.NoError(t, err)
			code, stdout, stderr := call(nil, line...)
			require.Equal(t, exitFailed, code, stderr)
			require.Empty(t, stdout)
			require.Regexp(t, `ctnas of somebody else \(process \d+ on \S+, since \S+\) is at work there`, stderr)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 1, "the lock alone")
			require.NoError(t, lock.Unlock())
			code, _, stderr = call(nil, line...)
			require.Equal(t, exitOK, code, stderr)
			require.NotContains(t, stderr, "its place is taken")

			// What writes into a finished run is refused too while another does, and may after it.
			if name == "search" {
				lock, err = files.Lock(dir, "ctnas of somebody else")
				require.NoError(t, err)
				code, _, stderr = call(nil, "report", dir)
				require.Equal(t, exitFailed, code)
				require.Contains(t, stderr, "is at work there")
				require.NoError(t, lock.Unlock())
				code, _, stderr = call(nil, "report", dir)
				require.Equal(t, exitOK, code, stderr)
			}
		})
	}
}

// The place of a process that was killed is taken with a word about it, and what it left half-written is tidied.
func TestTheFolderOfAKilledProcess(t *testing.T) {
	labels := "table:" + searchTable(t)
	dir := t.TempDir()
	lock, err := files.Lock(dir, "ctnas that was killed")
	require.NoError(t, err)
	note, err := os.ReadFile(filepath.Join(dir, files.LockName))
	require.NoError(t, err)
	require.NoError(t, lock.Unlock())
	require.NoError(t, os.WriteFile(filepath.Join(dir, files.LockName), note, 0o644))
	for _, name := range []string{".config.yaml12", ".result.json3", ".users-own4"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o644))
	}
	code, _, stderr := call(nil, folderLines(t, labels, dir)["search"]...)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stderr, "its place is taken")
	require.Contains(t, stderr, "ctnas that was killed")
	require.NoFileExists(t, filepath.Join(dir, ".config.yaml12"))
	require.NoFileExists(t, filepath.Join(dir, ".result.json3"))
	require.FileExists(t, filepath.Join(dir, ".users-own4"))
}

// A kill anywhere in the making of a folder leaves one that --out and --resume go on with. Settings come first: the copies of what else
// was given may be missing.
func TestAFolderWithoutItsCopies(t *testing.T) {
	line := []string{"search", "--space", "file:../../docs/examples/blocks.yaml", "--labels", "table:../../docs/examples/blocks.csv", "--budget", "16", "--seed", "3",
		"--per-round", "8", "--steps", "5", "--iterations", "5", "--quiet"}
	whole := filepath.Join(t.TempDir(), "whole")
	code, _, stderr := call(nil, append(line, "--out", whole)...)
	require.Equal(t, exitOK, code, stderr)
	config, err := os.ReadFile(filepath.Join(whole, search.ConfigName))
	require.NoError(t, err)
	for _, how := range []string{"--out", "--resume"} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, search.ConfigName), config, 0o644))
		again := append(line[:len(line):len(line)], "--out", dir)
		if how == "--resume" {
			again = []string{"search", "--resume", dir, "--quiet"}
		}
		code, _, stderr := call(nil, again...)
		require.Equal(t, exitOK, code, stderr)
		for _, name := range []string{"result.json", "ledger.jsonl", "space.yaml"} {
			a, err := os.ReadFile(filepath.Join(whole, name))
			require.NoError(t, err)
			b, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			require.Equal(t, string(a), string(b), name)
		}
	}
}

// What is named is a training's folder, or an architecture, whose text may be longer than a file's name can be.
func TestFolderOrArchitecture(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "weights.safetensors")
	require.NoError(t, os.WriteFile(plain, nil, 0o644))
	for _, name := range []string{"mobilenetv3_large_1.0", strings.Repeat("darts:Genotype(", 100), plain, dir} {
		require.True(t, isNoFolder((&trainSettings{}).load(name)), name)
	}
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, search.ConfigName)))
	err := (&trainSettings{}).load(dir)
	require.ErrorContains(t, err, "is a device, want a regular file")
	require.False(t, isNoFolder(err))
}
