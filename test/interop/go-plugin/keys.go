package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"

	keymanagerv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/server/keymanager/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type keyManager struct {
	base
	keymanagerv1.UnimplementedKeyManagerServer

	path string
	keys map[string]crypto.Signer
}

func newKeyManager() *keyManager {
	p := &keyManager{keys: map[string]crypto.Signer{}}
	p.configured = p.load
	return p
}

// load reads the keys of an earlier run.
func (p *keyManager) load(s Settings) error {
	p.path = s.KeysPath
	if p.path == "" {
		return nil
	}
	data, err := os.ReadFile(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var stored map[string][]byte
	if err := json.Unmarshal(data, &stored); err != nil {
		return err
	}
	for id, der := range stored {
		key, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return err
		}
		p.keys[id] = key.(crypto.Signer)
	}
	return nil
}

func (p *keyManager) save() error {
	if p.path == "" {
		return nil
	}
	stored := map[string][]byte{}
	for id, key := range p.keys {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		stored[id] = der
	}
	data, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	return os.WriteFile(p.path, data, 0o600)
}

func (p *keyManager) GenerateKey(_ context.Context, req *keymanagerv1.GenerateKeyRequest) (*keymanagerv1.GenerateKeyResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var key crypto.Signer
	var err error
	switch req.KeyType {
	case keymanagerv1.KeyType_EC_P256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keymanagerv1.KeyType_EC_P384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case keymanagerv1.KeyType_RSA_2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		return nil, status.Error(codes.InvalidArgument, "unsupported key type")
	}
	if err != nil {
		return nil, err
	}
	p.keys[req.KeyId] = key
	if err := p.save(); err != nil {
		return nil, err
	}
	public, err := describe(req.KeyId, key)
	return &keymanagerv1.GenerateKeyResponse{PublicKey: public}, err
}

func (p *keyManager) GetPublicKeys(context.Context, *keymanagerv1.GetPublicKeysRequest) (*keymanagerv1.GetPublicKeysResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	resp := new(keymanagerv1.GetPublicKeysResponse)
	for id, key := range p.keys {
		public, err := describe(id, key)
		if err != nil {
			return nil, err
		}
		resp.PublicKeys = append(resp.PublicKeys, public)
	}
	return resp, nil
}

func (p *keyManager) SignData(_ context.Context, req *keymanagerv1.SignDataRequest) (*keymanagerv1.SignDataResponse, error) {
	p.called()
	p.mu.Lock()
	defer p.mu.Unlock()
	key, ok := p.keys[req.KeyId]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such key")
	}
	signature, err := key.Sign(rand.Reader, req.Data, crypto.Hash(req.GetHashAlgorithm()))
	if err != nil {
		return nil, err
	}
	return &keymanagerv1.SignDataResponse{Signature: signature, KeyFingerprint: "1"}, nil
}

func describe(id string, key crypto.Signer) (*keymanagerv1.PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	kind := keymanagerv1.KeyType_RSA_2048
	if public, ok := key.Public().(*ecdsa.PublicKey); ok {
		kind = keymanagerv1.KeyType_EC_P256
		if public.Curve == elliptic.P384() {
			kind = keymanagerv1.KeyType_EC_P384
		}
	}
	return &keymanagerv1.PublicKey{Id: id, Type: kind, PkixData: der, Fingerprint: "1"}, nil
}
