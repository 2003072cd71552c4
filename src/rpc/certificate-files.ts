import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { reasonOf } from '../runtime/reason-of.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { decodePem, encodePem } from '../x509/pem.ts'
import { leafOf, type RenewedCertificate } from './serving-certificate.ts'

export interface CertificatePaths {
  /** PEM, the server's own certificate first. */
  readonly certificatePath: string
  /** PEM, not encrypted. */
  readonly keyPath: string
  /** PEM: who certifies clients, where they must show a certificate. */
  readonly clientCaPath?: string | undefined
}

export interface CertificateFilesDeps {
  /** Between looks at the files. */
  readonly lookEveryMs?: number
  /**
   * What becomes of a start with an expired certificate: `refused`, where nothing else depends on it; `shown`, with a warning, where a
   * whole server would stay down for it. While it runs an expired one takes nobody's place.
   */
  readonly expiredAtStart: 'refused' | 'shown'
  /** Told of each one that is taken over. */
  readonly onTaken?: (() => void) | undefined
  readonly clock: Clock
  readonly log: Logger
}

const usualLookEveryMs = 2_000
const largestFile = 1_048_576

/** A certificate of the web that somebody else renews in files (FED-22), taken over when all of them fit each other again. */
export class CertificateFiles implements RenewedCertificate {
  readonly #paths: CertificatePaths
  readonly #deps: CertificateFilesDeps
  #mark: string
  #options: SecureContextOptions

  private constructor (paths: CertificatePaths, deps: CertificateFilesDeps, mark: string, options: SecureContextOptions) {
    this.#paths = paths
    this.#deps = deps
    this.#mark = mark
    this.#options = options
  }

  /** @throws {SpiffeError} `file_unusable` when a file is missing, the key is another one's, or the certificate has expired */
  static async open (paths: CertificatePaths, deps: CertificateFilesDeps): Promise<CertificateFiles> {
    const { clock, log, expiredAtStart } = deps
    const mark = await markOf(paths)
    const options = await read(paths)
    const fault = expiry(options, paths, clock.now())
    if (fault !== undefined && expiredAtStart === 'refused') throw fault
    if (fault !== undefined) {
      log.warn({ code: fault.code, reason: fault.message }, 'the serving certificate has expired: it is shown all the same')
    }
    return new CertificateFiles(paths, deps, mark, options)
  }

  current (): SecureContextOptions { return this.#options }

  /** Looks for changes until the signal aborts, and throws its reason then. What cannot be used leaves the one before in use. */
  async run (signal: AbortSignal): Promise<void> {
    const { clock, log, onTaken, lookEveryMs = usualLookEveryMs } = this.#deps
    for (let said = ''; ;) {
      await clock.sleep(lookEveryMs, signal)
      try {
        const mark = await markOf(this.#paths)
        if (mark === this.#mark) continue
        const options = await read(this.#paths)
        const fault = expiry(options, this.#paths, clock.now())
        if (fault !== undefined) throw fault
        this.#options = options
        this.#mark = mark
        said = ''
        log.info({ path: this.#paths.certificatePath, notAfter: leafOf(options).validToDate }, 'new serving certificate taken over')
        onTaken?.()
      } catch (error) {
        if (!(error instanceof SpiffeError)) throw error
        const { code, message } = error
        if (message === said) continue
        log.error({ code, reason: message }, 'the serving certificate\'s files cannot be used: the one before goes on')
        said = message
      }
    }
  }
}

async function read ({ certificatePath, keyPath, clientCaPath }: CertificatePaths): Promise<SecureContextOptions> {
  const certificates = decodePem(await textOf(certificatePath), 'CERTIFICATE')
  const [leaf] = certificates
  if (leaf === undefined) throw new SpiffeError('file_unusable', `${certificatePath} has no certificate in PEM`)
  const cert = certificates.map(certificate => encodePem('CERTIFICATE', certificate)).join('')
  const key = await textOf(keyPath)
  const unusable = (cause: unknown) =>
    new SpiffeError('file_unusable', `${certificatePath} and ${keyPath} cannot be used: ${(cause as Error).message}`, { cause })
  let fits
  try {
    fits = new X509Certificate(leaf).checkPrivateKey(createPrivateKey(key))
  } catch (cause) {
    throw unusable(cause)
  }
  if (!fits) throw new SpiffeError('file_unusable', `${keyPath} is not the key of the certificate in ${certificatePath}`)
  try {
    createSecureContext({ cert, key })
  } catch (cause) {
    throw unusable(cause)
  }
  return clientCaPath === undefined ? { cert, key } : { cert, key, ca: await readAuthorities(clientCaPath) }
}

async function readAuthorities (path: string): Promise<string[]> {
  const authorities = decodePem(await textOf(path), 'CERTIFICATE').map(certificate => encodePem('CERTIFICATE', certificate))
  if (authorities.length === 0) throw new SpiffeError('file_unusable', `${path} has no certificate in PEM`)
  try {
    createSecureContext({ ca: authorities })
  } catch (cause) {
    throw new SpiffeError('file_unusable', `${path} cannot be used: ${(cause as Error).message}`, { cause })
  }
  return authorities
}

function expiry (options: SecureContextOptions, { certificatePath }: CertificatePaths, now: Date): SpiffeError | undefined {
  const { validToDate } = leafOf(options)
  if (validToDate > now) return undefined
  return new SpiffeError('file_unusable', `the certificate in ${certificatePath} expired at ${validToDate.toISOString()}`)
}

async function markOf ({ certificatePath, keyPath, clientCaPath }: CertificatePaths): Promise<string> {
  const paths = [certificatePath, keyPath, ...clientCaPath === undefined ? [] : [clientCaPath]]
  const marks = await Promise.all(paths.map(async path => {
    const { mtimeMs, size, ino } = await stat(path).catch((cause: unknown) => { throw unreadable(path, cause) })
    if (size > largestFile) throw new SpiffeError('file_unusable', `${path} is larger than ${largestFile} bytes`)
    return `${mtimeMs} ${size} ${ino}`
  }))
  return marks.join()
}

async function textOf (path: string): Promise<string> {
  return await readFile(path, 'utf8').catch((cause: unknown) => { throw unreadable(path, cause) })
}

function unreadable (path: string, cause: unknown): SpiffeError {
  // Without the system's call: a file that is missing is one fault, whichever call finds it.
  return new SpiffeError('file_unusable', `cannot read ${path}: ${reasonOf(cause)}`, { cause })
}
