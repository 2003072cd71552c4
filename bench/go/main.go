// Measures what Go's standard library needs for the work behind one X509-SVID, in CPU time of this process, garbage collection included.
// Prints one JSON object with microseconds per operation.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"flag"
	"log"
	"math/big"
	"net/url"
	"os"
	"runtime"
	"syscall"
	"time"
)

func main() {
	each := flag.Duration("each", 500*time.Millisecond, "CPU time for each operation")
	flag.Parse()
	b := newBench()
	results := map[string]float64{}
	for name, step := range map[string]func(){"pipeline": b.pipeline, "create": b.create, "sign": b.sign, "verify": b.verify} {
		results[name] = measure(*each, step)
	}
	out := map[string]any{"microseconds": results, "version": runtime.Version()}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	caKey     *ecdsa.PrivateKey
	ca        *x509.Certificate
	csr       []byte
	id        *url.URL
	public    any
	digest    [32]byte
	signature []byte
}

func newBench() *bench {
	b := &bench{digest: sha256.Sum256([]byte("what is signed"))}
	b.caKey = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1, 2, 3, 4},
	}
	b.ca = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, b.caKey.Public(), b.caKey))))
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	b.public = key.Public()
	b.csr = must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
	b.id = must(url.Parse("spiffe://example.org/workload"))
	b.signature = must(ecdsa.SignASN1(rand.Reader, b.caKey, b.digest[:]))
	return b
}

// pipeline is the whole: parse the request, prove possession, make the certificate.
func (b *bench) pipeline() {
	request := must(x509.ParseCertificateRequest(b.csr))
	if err := request.CheckSignature(); err != nil {
		log.Fatal(err)
	}
	b.issue(request.PublicKey)
}

func (b *bench) create() { b.issue(b.public) }

func (b *bench) issue(public any) {
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		log.Fatal(err)
	}
	serial[0] &= 0x7f
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), NotBefore: now, NotAfter: now.Add(time.Hour), URIs: []*url.URL{b.id},
		Subject: pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}}, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	must(x509.CreateCertificate(rand.Reader, template, b.ca, public, b.caKey))
}

func (b *bench) sign() { must(ecdsa.SignASN1(rand.Reader, b.caKey, b.digest[:])) }

func (b *bench) verify() {
	if !ecdsa.VerifyASN1(&b.caKey.PublicKey, b.digest[:], b.signature) {
		log.Fatal("the signature does not verify")
	}
}

// measure gives microseconds of CPU per call, from about as much CPU time as asked for.
func measure(atLeast time.Duration, step func()) float64 {
	for range 20 {
		step()
	}
	runtime.GC()
	begin := cpu()
	count := 0
	for cpu()-begin < atLeast {
		for range 20 {
			step()
		}
		count += 20
	}
	return float64((cpu() - begin).Nanoseconds()) / 1000 / float64(count)
}

func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
