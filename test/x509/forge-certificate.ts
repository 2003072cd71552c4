import { createPublicKey, hash, sign, type KeyObject } from 'node:crypto'
import { keyUsages, type KeyUsage } from '../../src/x509/certificate-extensions.ts'
import { encodeTime } from '../../src/x509/der-time.ts'
import {
  encodeBitString, encodeBoolean, encodeContext, encodeContextPrimitive, encodeDer, encodeNamedBits, encodeOctetString, encodeOid,
  encodeSequence, encodeUnsigned
} from '../../src/x509/der-writer.ts'
import { encodeExtension } from '../../src/x509/encode-extension.ts'
import { encodeDnsName, encodeUri } from '../../src/x509/general-names.ts'
import { encodeName } from '../../src/x509/name.ts'
import { oid } from '../../src/x509/oid.ts'
import { makeTestKey } from '../fakes/authority.ts'

/** Extensions by object identifier, each whole; `undefined` leaves out what a preset has. */
export type Extensions = Readonly<Record<string, Uint8Array | undefined>>

export interface ForgeOptions {
  /** Self-signed without. */
  readonly issuer?: Forged
  /** Of the subject; a new one by default. */
  readonly key?: KeyObject
  /** Instead of the subject's public key, DER. */
  readonly publicKey?: Uint8Array
  /** A common name, or a Name in DER. */
  readonly subject?: string | Uint8Array
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly extensions?: Extensions
  /** Of the signature. */
  readonly digest?: string
  /** AlgorithmIdentifier, hex; ecdsa-with-SHA256 by default, or sha256WithRSA. */
  readonly algorithm?: string
  readonly version?: number
  readonly serial?: Uint8Array
}

/** A certificate with whatever faults a test needs, and what it takes to issue more with it. */
export interface Forged {
  readonly der: Uint8Array
  readonly key: KeyObject
  readonly subjectDer: Uint8Array
}

/** Midday of the day on which all forged certificates are valid. */
export const noon = new Date('2026-03-01T12:00:00Z')
const day = { notBefore: new Date('2026-03-01T00:00:00Z'), notAfter: new Date('2026-03-02T00:00:00Z') }

export function forge (options: ForgeOptions): Forged {
  const key = options.key ?? makeTestKey()
  const { issuer, subject = 'test', notBefore = day.notBefore, notAfter = day.notAfter, digest = 'sha256' } = options
  const subjectDer = typeof subject === 'string' ? encodeName([[oid.commonName, subject]]) : subject
  const signingKey = issuer?.key ?? key
  const isRsa = signingKey.asymmetricKeyType === 'rsa'
  const algorithm = Buffer.from(options.algorithm ?? (isRsa ? '300d06092a864886f70d01010b0500' : '300a06082a8648ce3d040302'), 'hex')
  const extensions = Object.values(options.extensions ?? {}).filter(extension => extension !== undefined)
  const tbs = encodeSequence(
    encodeContext(0, encodeUnsigned(Buffer.of((options.version ?? 3) - 1))),
    encodeUnsigned(options.serial ?? Buffer.of(1)),
    algorithm,
    issuer?.subjectDer ?? subjectDer,
    encodeSequence(encodeTime(notBefore), encodeTime(notAfter)),
    subjectDer,
    options.publicKey ?? createPublicKey(key).export({ format: 'der', type: 'spki' }),
    ...extensions.length > 0 ? [encodeContext(3, encodeSequence(...extensions))] : []
  )
  const signature = sign(signingKey.asymmetricKeyType === 'ed25519' ? null : digest, tbs, signingKey)
  return { der: encodeSequence(tbs, algorithm, encodeBitString(signature)), key, subjectDer }
}

/** What a good leaf has. */
export function leafExtensions (...uris: readonly string[]): Extensions {
  return {
    [oid.keyUsage]: keyUsage(['digitalSignature']),
    [oid.extendedKeyUsage]: extendedKeyUsage([oid.serverAuth, oid.clientAuth]),
    [oid.basicConstraints]: basicConstraints(false),
    [oid.subjectAltName]: altNames(uris.map(encodeUri))
  }
}

/** What a good CA certificate has. */
export function caExtensions (...uris: readonly string[]): Extensions {
  return {
    [oid.keyUsage]: keyUsage(['keyCertSign', 'cRLSign']),
    [oid.basicConstraints]: basicConstraints(true),
    [oid.subjectAltName]: uris.length > 0 ? altNames(uris.map(encodeUri)) : undefined
  }
}

export function keyUsage (usages: readonly KeyUsage[], isCritical = true): Uint8Array {
  return encodeExtension(oid.keyUsage, isCritical, encodeNamedBits(usages.map(usage => keyUsages.indexOf(usage))))
}

export function extendedKeyUsage (purposes: readonly string[]): Uint8Array {
  return encodeExtension(oid.extendedKeyUsage, false, encodeSequence(...purposes.map(encodeOid)))
}

export function basicConstraints (isCa: boolean, pathLength?: number): Uint8Array {
  const limit = pathLength === undefined ? [] : [encodeUnsigned(Buffer.of(pathLength))]
  return encodeExtension(oid.basicConstraints, true, encodeSequence(...isCa ? [encodeBoolean(true)] : [], ...limit))
}

export function altNames (names: readonly Uint8Array[], isCritical = false): Uint8Array {
  return encodeExtension(oid.subjectAltName, isCritical, encodeSequence(...names))
}

export function subjectKeyId (id: Uint8Array): Uint8Array {
  return encodeExtension(oid.subjectKeyIdentifier, false, encodeOctetString(id))
}

export function authorityKeyId (id: Uint8Array): Uint8Array {
  return encodeExtension(oid.authorityKeyIdentifier, false, encodeSequence(encodeContextPrimitive(0, id)))
}

/** @param permitted GeneralNames, DER; likewise `excluded` */
export function nameConstraints (permitted: readonly Uint8Array[], excluded: readonly Uint8Array[] = []): Uint8Array {
  const subtrees = (number: number, bases: readonly Uint8Array[]) =>
    bases.length > 0 ? [encodeContext(number, ...bases.map(base => encodeSequence(base)))] : []
  return encodeExtension(oid.nameConstraints, true, encodeSequence(...subtrees(0, permitted), ...subtrees(1, excluded)))
}

export function unknownExtension (isCritical: boolean): Uint8Array {
  return encodeExtension('1.3.6.1.4.1.55555.1', isCritical, encodeOctetString(Buffer.from('x')))
}

/** GeneralNames of forms other than URI. */
export const nameOf = {
  uri: encodeUri,
  dns: encodeDnsName,
  email: (address: string) => encodeContextPrimitive(1, Buffer.from(address)),
  ip: (octets: readonly number[]) => encodeContextPrimitive(7, Buffer.from(octets)),
  directory: (name: Uint8Array) => encodeContext(4, name),
  registeredId: (dotted: string) => encodeContextPrimitive(8, encodeOid(dotted).subarray(2)),
  other: (text: string) => encodeContext(0, encodeOid('1.2.3'), encodeContext(0, encodeDer(0x0c, Buffer.from(text))))
}

export function keyIdOf (key: KeyObject): Uint8Array {
  return hash('sha1', createPublicKey(key).export({ format: 'der', type: 'spki' }), 'buffer')
}
