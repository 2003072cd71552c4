import { createPrivateKey, type KeyObject } from 'node:crypto'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import { parseCertificate, type Certificate } from '../../x509/certificate.ts'
import { decodePem } from '../../x509/pem.ts'
import { signerOf } from '../../x509/private-key-signer.ts'
import type { Signer } from '../../x509/signer.ts'
import { subjectKeyIdOf } from '../../ca/upstream-roots.ts'

export interface UpstreamFiles {
  readonly certificate: string
  readonly key: string
  /** Roots; without it the certificate is its own. */
  readonly bundle: string | undefined
}

export interface UpstreamCa {
  readonly certificate: Certificate
  readonly signer: Signer
  /** The CA and those above it, without a root. */
  readonly chain: readonly Certificate[]
  readonly roots: readonly Certificate[]
}

/** Bytes of one file. */
const maxSize = 1024 * 1024
const mostCertificates = 100

/**
 * Reads a CA from PEM files, all of them or nothing: a file half written, or files that are not of each other, are refused.
 * @throws {SpiffeError} `file_unusable`, `upstream_invalid`; content is never quoted
 */
export async function readUpstreamFiles (files: UpstreamFiles): Promise<UpstreamCa> {
  const [certificates, signer, roots] = await Promise.all([
    readCertificates(files.certificate), readKey(files.key), files.bundle === undefined ? undefined : readCertificates(files.bundle)
  ])
  const [certificate] = certificates
  if (Buffer.compare(certificate.publicKey, signer.publicKey) !== 0) {
    throw invalid(`${files.key} is not the key of the first certificate in ${files.certificate}`)
  }
  if (!certificate.isCa || certificate.keyUsage?.has('keyCertSign') === false) {
    throw invalid(`the first certificate in ${files.certificate} is no CA: basicConstraints or key usage say so`)
  }
  if (roots === undefined && !isSelfIssued(certificate)) {
    throw invalid(`the certificate in ${files.certificate} is no root of its own: name its roots in bundle_file_path`)
  }
  const known = roots ?? [certificate]
  const isRoot = (candidate: Certificate) => known.some(({ raw }) => Buffer.compare(raw, candidate.raw) === 0)
  return { certificate, signer, chain: certificates.filter(candidate => !isRoot(candidate)), roots: distinct(known) }
}

async function readCertificates (path: string): Promise<[Certificate, ...Certificate[]]> {
  const text = await readText(path)
  try {
    const [first, ...others] = decodePem(text, 'CERTIFICATE').map(der => parseCertificate(der))
    if (first === undefined) throw invalid(`there is no certificate in ${path}`)
    if (others.length >= mostCertificates) throw invalid(`there are more than ${mostCertificates} certificates in ${path}`)
    // Roots are told by their key; it must be one that can be.
    for (const certificate of [first, ...others]) subjectKeyIdOf(certificate)
    return [first, ...others]
  } catch (error) {
    if (codeOf(error) === 'upstream_invalid' || !(error instanceof SpiffeError)) throw error
    throw new SpiffeError('upstream_invalid', `${path}: ${error.message}`, { cause: error })
  }
}

async function readKey (path: string): Promise<Signer> {
  const pem = await readText(path)
  let key: KeyObject
  try {
    key = createPrivateKey(pem)
  } catch {
    // What OpenSSL says may hold parts of the file.
    throw invalid(`${path} holds no private key in PEM that is whole and not encrypted`)
  }
  try {
    return signerOf(key)
  } catch (error) {
    throw new SpiffeError('upstream_invalid', `${path}: ${(error as Error).message}`, { cause: error })
  }
}

async function readText (path: string): Promise<string> {
  try {
    // Not blocking, so that a FIFO in its place is refused and not waited for.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const stats = await file.stat()
    if (!stats.isFile()) throw new SpiffeError('file_unusable', `${path} is no regular file`)
    if (stats.size > maxSize) throw new SpiffeError('file_unusable', `${path} is longer than ${maxSize} bytes`)
    return await file.readFile('utf8')
  } catch (error) {
    if (error instanceof SpiffeError) throw error
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
}

function distinct (certificates: readonly Certificate[]): Certificate[] {
  return [...new Map(certificates.map(certificate => [Buffer.from(certificate.raw).toString('latin1'), certificate])).values()]
}

function isSelfIssued ({ subjectDer, issuerDer }: Certificate): boolean { return Buffer.compare(subjectDer, issuerDer) === 0 }

function invalid (message: string): SpiffeError { return new SpiffeError('upstream_invalid', message) }
