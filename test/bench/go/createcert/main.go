// Command createcert prints how many X.509-SVIDs crypto/x509 makes per second of CPU time on one core. It makes the
// same certificates as Signet's benchmark: P-256, one URI, the extensions of an SVID, a random serial number.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"net/url"
	"runtime"
	"syscall"
	"time"
)

func main() {
	runtime.GOMAXPROCS(1)
	caKey := newKey()
	subjectKey := newKey()
	now := time.Now().Truncate(time.Second)
	caDER, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{Organization: []string{"Signet"}, SerialNumber: "01"},
		NotBefore:             now,
		NotAfter:              now.Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: "example.org"}},
	}, &x509.Certificate{Subject: pkix.Name{Organization: []string{"Signet"}, SerialNumber: "01"}}, &caKey.PublicKey, caKey)
	check(err)
	ca, err := x509.ParseCertificate(caDER)
	check(err)

	one := func() {
		serial := make([]byte, 16)
		_, err := rand.Read(serial)
		check(err)
		serial[0] &= 0x7f
		_, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber:          new(big.Int).SetBytes(serial),
			Subject:               pkix.Name{Organization: []string{"Signet"}},
			NotBefore:             now,
			NotAfter:              now.Add(time.Hour),
			BasicConstraintsValid: true,
			KeyUsage:              x509.KeyUsageDigitalSignature,
			ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			URIs:                  []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/ns/payments/sa/order-service"}},
		}, ca, &subjectKey.PublicKey, caKey)
		check(err)
	}
	for i := 0; i < 500; i++ {
		one()
	}
	const count = 5000
	start := cpu()
	for i := 0; i < count; i++ {
		one()
	}
	fmt.Printf("%.0f\n", count/(cpu()-start).Seconds())
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	return key
}

// cpu is the CPU time that the process has used, in all threads.
func cpu() time.Duration {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
