//go:build !nofarm

package bus

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/ctnas/ctnas/internal/files"
)

// The files of a folder of keys: what everybody needs to join, and what stays with whoever runs the server.
const (
	KeysFolder   = "keys"   // for whoever joins: copy it to their machines
	SecretFolder = "secret" // for the server's side alone

	caFile          = "ca.pem"         // in both: the authority that vouches for the server
	memberFile      = "worker.nk"      // in keys: who joins
	ownerFile       = "coordinator.nk" // in secret: who may do everything
	authorityFile   = "ca.key"         // in secret: with it certificates are made
	mostSecretBytes = 64 << 10
)

// years is how long an authority is good for.
const years = 10

// MakeKeys makes an authority and keys in a folder, or completes what is there: dir/keys is for whoever joins,
// dir/secret stays. What is there already is kept.
func MakeKeys(dir string) error {
	public, secret := filepath.Join(dir, KeysFolder), filepath.Join(dir, SecretFolder)
	for _, folder := range []string{dir, public, secret} {
		if err := files.MkdirAll(folder); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chmod(public, 0o700), os.Chmod(secret, 0o700)); err != nil {
		return err
	}
	if missing(filepath.Join(secret, authorityFile)) || missing(filepath.Join(public, caFile)) {
		if err := makeAuthority(filepath.Join(public, caFile), filepath.Join(secret, authorityFile)); err != nil {
			return err
		}
	}
	for _, path := range []string{filepath.Join(public, memberFile), filepath.Join(secret, ownerFile)} {
		if !missing(path) {
			continue
		}
		user, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		seed, err := user.Seed()
		if err != nil {
			return err
		}
		if err := writeSecret(path, append(seed, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// writeSecret writes a file that its owner alone may read.
func writeSecret(path string, text []byte) error {
	if err := files.Write(path, text); err != nil {
		return err
	}
	return os.Chmod(path, 0o600)
}

func makeAuthority(certificate, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	// Clocks of the machines may differ by a day.
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "ctnas farm"},
		NotBefore: time.Now().AddDate(0, 0, -1), NotAfter: time.Now().AddDate(years, 0, 0), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, MaxPathLenZero: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return err
	}
	text, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return err
	}
	if err := writeSecret(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text})); err != nil {
		return err
	}
	return files.Write(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// serverCertificate makes one for this start of the server, for the names that it is reached by.
func serverCertificate(dir string, hosts []string) (*tls.Config, error) {
	authority, err := tls.LoadX509KeyPair(filepath.Join(dir, KeysFolder, caFile),
		filepath.Join(dir, SecretFolder, authorityFile))
	if err != nil {
		return nil, fmt.Errorf("the authority in %s: %w", dir, err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "ctnas farm's server"},
		NotBefore: time.Now().AddDate(0, 0, -1), NotAfter: authority.Leaf.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.Leaf, &private.PublicKey,
		authority.PrivateKey)
	if err != nil {
		return nil, err
	}
	chain := [][]byte{der, authority.Certificate[0]}
	return &tls.Config{MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: private}}}, nil
}

// Credentials are who connects, and whom it believes. The zero value shows no key and believes what the system does.
type Credentials struct {
	authorities *x509.CertPool
	public      string
	sign        func([]byte) ([]byte, error)
}

// Member reads what MakeKeys put into dir/keys, wherever that folder was copied to.
func Member(keys string) (Credentials, error) {
	return readCredentials(keys, filepath.Join(keys, memberFile))
}

// Owner reads what MakeKeys put into dir.
func Owner(dir string) (Credentials, error) {
	return readCredentials(filepath.Join(dir, KeysFolder), filepath.Join(dir, SecretFolder, ownerFile))
}

func readCredentials(keys, seed string) (c Credentials, err error) {
	path := filepath.Join(keys, caFile)
	text, err := files.Read(path, mostSecretBytes)
	if err != nil {
		return c, err
	}
	c.authorities = x509.NewCertPool()
	if !c.authorities.AppendCertsFromPEM(text) {
		return c, fmt.Errorf("%s: no certificate is in it", path)
	}
	if text, err = files.Read(seed, mostSecretBytes); err != nil {
		return c, err
	}
	pair, err := nkeys.FromSeed(bytes.TrimSpace(text))
	if err != nil {
		return c, fmt.Errorf("%s: it holds no key: %w", seed, err)
	}
	c.sign = pair.Sign
	if c.public, err = pair.PublicKey(); err != nil {
		return c, fmt.Errorf("%s: %w", seed, err)
	}
	return c, nil
}
