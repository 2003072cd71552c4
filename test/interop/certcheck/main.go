// Command certcheck says what Go's crypto/x509 makes of certificates and requests.
// It reads {"cases":[{"chain":[DER], "roots":[DER], "at":seconds}], "requests":[DER]} on standard input, DER in base64,
// and prints {"cases":[...], "requests":[...]} in the same order.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

type input struct {
	Cases []struct {
		Chain [][]byte `json:"chain"`
		Roots [][]byte `json:"roots"`
		At    int64    `json:"at"`
	} `json:"cases"`
	Requests [][]byte `json:"requests"`
}

type seen struct {
	Error         string   `json:"error,omitempty"`
	VerifyError   string   `json:"verifyError,omitempty"`
	URIs          []string `json:"uris"`
	DNSNames      []string `json:"dnsNames"`
	Subject       string   `json:"subject"`
	Serial        string   `json:"serial"`
	NotBefore     int64    `json:"notBefore"`
	NotAfter      int64    `json:"notAfter"`
	KeyUsage      int      `json:"keyUsage"`
	ExtKeyUsage   []int    `json:"extKeyUsage"`
	HasBasic      bool     `json:"hasBasicConstraints"`
	IsCA          bool     `json:"isCa"`
	MaxPathLen    int      `json:"maxPathLen"`
	SubjectKeyID  string   `json:"subjectKeyId"`
	AuthorityKey  string   `json:"authorityKeyId"`
	Algorithm     string   `json:"algorithm"`
	KeyAlgorithm  string   `json:"keyAlgorithm"`
	Critical      []string `json:"critical"`
	Extensions    []string `json:"extensions"`
	Unhandled     int      `json:"unhandled"`
	SamePublicKey bool     `json:"samePublicKey"`
}

type request struct {
	Error    string   `json:"error,omitempty"`
	URIs     []string `json:"uris"`
	DNSNames []string `json:"dnsNames"`
	Subject  string   `json:"subject"`
}

func main() {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cases := []seen{}
	for _, c := range in.Cases {
		cases = append(cases, look(c.Chain, c.Roots, time.Unix(c.At, 0)))
	}
	requests := []request{}
	for _, der := range in.Requests {
		requests = append(requests, lookAtRequest(der))
	}
	out := map[string]any{"cases": cases, "requests": requests}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		os.Exit(1)
	}
}

func look(chain, roots [][]byte, at time.Time) seen {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return seen{Error: err.Error()}
	}
	s := seen{
		URIs: []string{}, DNSNames: append([]string{}, leaf.DNSNames...), ExtKeyUsage: []int{}, Critical: []string{}, Extensions: []string{},
		Subject: leaf.Subject.String(), Serial: leaf.SerialNumber.Text(16), NotBefore: leaf.NotBefore.Unix(), NotAfter: leaf.NotAfter.Unix(),
		KeyUsage: int(leaf.KeyUsage), HasBasic: leaf.BasicConstraintsValid, IsCA: leaf.IsCA, MaxPathLen: leaf.MaxPathLen,
		SubjectKeyID: hex.EncodeToString(leaf.SubjectKeyId), AuthorityKey: hex.EncodeToString(leaf.AuthorityKeyId),
		Algorithm: leaf.SignatureAlgorithm.String(), KeyAlgorithm: leaf.PublicKeyAlgorithm.String(),
		Unhandled: len(leaf.UnhandledCriticalExtensions),
	}
	for _, uri := range leaf.URIs {
		s.URIs = append(s.URIs, uri.String())
	}
	for _, usage := range leaf.ExtKeyUsage {
		s.ExtKeyUsage = append(s.ExtKeyUsage, int(usage))
	}
	for _, extension := range leaf.Extensions {
		s.Extensions = append(s.Extensions, extension.Id.String())
		if extension.Critical {
			s.Critical = append(s.Critical, extension.Id.String())
		}
	}
	spki, err := x509.MarshalPKIXPublicKey(leaf.PublicKey)
	s.SamePublicKey = err == nil && bytes.Equal(spki, leaf.RawSubjectPublicKeyInfo)
	options := x509.VerifyOptions{
		Roots: pool(roots), Intermediates: pool(chain[1:]), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		options.KeyUsages = []x509.ExtKeyUsage{usage}
		if _, err := leaf.Verify(options); err != nil {
			s.VerifyError = err.Error()
		}
	}
	return s
}

func lookAtRequest(der []byte) request {
	csr, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return request{Error: err.Error()}
	}
	r := request{URIs: []string{}, DNSNames: append([]string{}, csr.DNSNames...), Subject: csr.Subject.String()}
	for _, uri := range csr.URIs {
		r.URIs = append(r.URIs, uri.String())
	}
	return r
}

func pool(certificates [][]byte) *x509.CertPool {
	p := x509.NewCertPool()
	for _, der := range certificates {
		if certificate, err := x509.ParseCertificate(der); err == nil {
			p.AddCert(certificate)
		}
	}
	return p
}
