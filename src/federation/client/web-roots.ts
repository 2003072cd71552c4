import { constants } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseCertificate } from '../../x509/certificate.ts'
import { decodePem, encodePem } from '../../x509/pem.ts'

export interface WebRootsOptions {
  /** PEM, one certificate each; by default the web's and this machine's, NODE_EXTRA_CA_CERTS among them. */
  readonly roots?: readonly string[] | undefined
  /** A file of further certificates in PEM, read again when it changes. */
  readonly extraCaPath?: string | undefined
}

/** Whom `https_web` believes (FED-23). They vouch for hosts, never for SPIFFE IDs. */
export class WebRoots {
  readonly #options: WebRootsOptions
  #read: { readonly mark: string, readonly context: SecureContext } | undefined

  constructor (options: WebRootsOptions = {}) { this.#options = options }

  /**
   * For the next connection.
   * @throws {SpiffeError} `file_unusable`
   */
  async context (): Promise<SecureContext> {
    const { extraCaPath, roots = webAuthorities() } = this.#options
    const mark = extraCaPath === undefined ? '' : await markOf(extraCaPath)
    if (this.#read?.mark === mark) return this.#read.context
    const extra = extraCaPath === undefined ? [] : await readExtra(extraCaPath)
    // A server that asked for another handshake could show another certificate after the check.
    const context = createSecureContext({
      ca: [...roots, ...extra], minVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_RENEGOTIATION
    })
    this.#read = { mark, context }
    return context
  }
}

function webAuthorities (): string[] {
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...getCACertificates('extra')])]
}

async function markOf (path: string): Promise<string> {
  const { mtimeMs, size, ino } = await stat(path).catch((cause: unknown) => { throw unusable(path, cause) })
  return `${mtimeMs} ${size} ${ino}`
}

async function readExtra (path: string): Promise<string[]> {
  try {
    const certificates = decodePem(await readFile(path, 'utf8'), 'CERTIFICATE')
    if (certificates.length === 0) throw new Error('it has no certificate in PEM')
    for (const certificate of certificates) parseCertificate(certificate)
    return certificates.map(certificate => encodePem('CERTIFICATE', certificate))
  } catch (cause) {
    throw unusable(path, cause)
  }
}

function unusable (path: string, cause: unknown): SpiffeError {
  return new SpiffeError('file_unusable', `cannot use the CA certificates in ${path}: ${(cause as Error).message}`, { cause })
}
