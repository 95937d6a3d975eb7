package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"os"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func readCertificates(path string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New(path + " holds no certificate")
	}
	return out, nil
}

// Two opinions that share nothing with Signet: Go's path validation alone, and go-spiffe's rules on top of it.
func verifyCert(_ context.Context, args []string) error {
	set := flag.NewFlagSet("verify-cert", flag.ExitOnError)
	chainFile := set.String("chain", "", "PEM file, leaf first")
	bundleFile := set.String("bundle", "", "PEM file with the authorities")
	domain := set.String("trust-domain", "", "whose authorities these are; unset: the leaf's own")
	_ = set.Parse(args)
	chain, err := readCertificates(*chainFile)
	if err != nil {
		return err
	}
	authorities, err := readCertificates(*bundleFile)
	if err != nil {
		return err
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, a := range authorities {
		roots.AddCert(a)
	}
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, goErr := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	answer := object{"cryptoX509": goErr == nil, "cryptoX509Error": text(goErr)}

	var spiffeErr error
	id, err := x509svid.IDFromCert(chain[0])
	if err != nil {
		spiffeErr = err
	} else {
		td := id.TrustDomain()
		if *domain != "" {
			if td, err = spiffeid.TrustDomainFromString(*domain); err != nil {
				return err
			}
		}
		answer["id"] = id.String()
		_, _, spiffeErr = x509svid.Verify(chain, x509bundle.FromX509Authorities(td, authorities))
	}
	answer["goSpiffe"], answer["goSpiffeError"] = spiffeErr == nil, text(spiffeErr)
	emit(answer)
	return nil
}
