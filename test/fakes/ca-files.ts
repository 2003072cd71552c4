import { writeFile } from 'node:fs/promises'
import type { KeyObject } from 'node:crypto'
import { join } from 'node:path'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createCaCertificate, type CaCertificateOptions } from '../../src/x509/ca-certificate.ts'
import { parseCertificate, type Certificate } from '../../src/x509/certificate.ts'
import type { KeyType } from '../../src/x509/key-type.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import type { Signer } from '../../src/x509/signer.ts'
import { makeTestKey } from './authority.ts'

export interface TestCa {
  readonly certificate: Certificate
  readonly signer: Signer
  readonly key: KeyObject
  /** Hex. */
  readonly subjectKeyId: string
}

export interface TestCaOptions extends Partial<Omit<CaCertificateOptions, 'trustDomain' | 'signer' | 'issuer'>> {
  readonly trustDomain?: string
  readonly keyType?: KeyType
  readonly issuer?: TestCa
}

/** A CA whose key is at hand; of example.org, for ten years from an hour ago, self-signed by default. */
export async function createTestCa ({ trustDomain = 'example.org', keyType, ...options }: TestCaOptions = {}): Promise<TestCa> {
  const key = makeTestKey(keyType)
  const signer = signerOf(key)
  const certificate = parseCertificate(await createCaCertificate({
    trustDomain: parseTrustDomain(trustDomain), signer, notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 10 * 365 * 86_400_000), ...options
  }))
  return { certificate, signer, key, subjectKeyId: Buffer.from(certificate.subjectKeyId ?? []).toString('hex') }
}

export function pemOf (...cas: readonly TestCa[]): string {
  return cas.map(({ certificate }) => encodePem('CERTIFICATE', certificate.raw)).join('')
}

export function keyPemOf ({ key }: TestCa): string { return key.export({ format: 'pem', type: 'pkcs8' }).toString() }

export interface CaFiles {
  readonly cert_file_path: string
  readonly key_file_path: string
  readonly bundle_file_path?: string
}

/** Writes what the plugin `disk` reads, one file after the other. @param chain the CA that signs first */
export async function writeCaFiles (folder: string, chain: readonly [TestCa, ...TestCa[]], roots?: readonly TestCa[]): Promise<CaFiles> {
  const [cert, key, bundle] = [join(folder, 'upstream.crt'), join(folder, 'upstream.key'), join(folder, 'upstream-roots.crt')]
  await writeFile(cert, pemOf(...chain))
  await writeFile(key, keyPemOf(chain[0]), { mode: 0o600 })
  if (roots === undefined) return { cert_file_path: cert, key_file_path: key }
  await writeFile(bundle, pemOf(...roots))
  return { cert_file_path: cert, key_file_path: key, bundle_file_path: bundle }
}
