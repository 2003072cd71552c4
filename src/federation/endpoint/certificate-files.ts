import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { decodePem, encodePem } from '../../x509/pem.ts'
import type { ServingCertificate } from './serving-certificate.ts'

export interface CertificatePaths {
  /** PEM, the server's own certificate first. */
  readonly certificatePath: string
  /** PEM, not encrypted. */
  readonly keyPath: string
}

export interface CertificateFilesDeps {
  /** Between looks at the files. */
  readonly lookEveryMs?: number
  readonly clock: Clock
  readonly log: Logger
}

const usualLookEveryMs = 2_000
const largestFile = 1_048_576

/** `https_web`: a certificate that somebody else renews in files (FED-22), taken over when both fit each other again. */
export class CertificateFiles implements ServingCertificate {
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

  /** @throws {SpiffeError} `file_unusable` */
  static async open (paths: CertificatePaths, deps: CertificateFilesDeps): Promise<CertificateFiles> {
    const mark = await markOf(paths)
    return new CertificateFiles(paths, deps, mark, await read(paths, deps))
  }

  current (): SecureContextOptions { return this.#options }

  /** Looks for changes until the signal aborts, and throws its reason then. What cannot be used leaves the one before in use. */
  async run (signal: AbortSignal): Promise<void> {
    const { clock, log, lookEveryMs = usualLookEveryMs } = this.#deps
    for (let said = ''; ;) {
      await clock.sleep(lookEveryMs, signal)
      try {
        const mark = await markOf(this.#paths)
        if (mark === this.#mark) continue
        this.#options = await read(this.#paths, this.#deps)
        this.#mark = mark
        said = ''
        log.info({ path: this.#paths.certificatePath }, 'new certificate taken over by the bundle endpoint')
      } catch (error) {
        const { code, message } = error as SpiffeError
        if (message === said) continue
        log.error({ code, reason: message }, 'the bundle endpoint\'s certificate cannot be used: the one before goes on')
        said = message
      }
    }
  }
}

async function read ({ certificatePath, keyPath }: CertificatePaths, { clock, log }: CertificateFilesDeps): Promise<SecureContextOptions> {
  const certificates = decodePem(await textOf(certificatePath), 'CERTIFICATE')
  const [leaf] = certificates
  if (leaf === undefined) throw new SpiffeError('file_unusable', `${certificatePath} has no certificate in PEM`)
  const cert = certificates.map(certificate => encodePem('CERTIFICATE', certificate)).join('')
  const key = await textOf(keyPath)
  let certificate, fits
  try {
    certificate = new X509Certificate(leaf)
    fits = certificate.checkPrivateKey(createPrivateKey(key))
    createSecureContext({ cert, key })
  } catch (cause) {
    throw new SpiffeError('file_unusable', `${certificatePath} and ${keyPath} cannot be used: ${(cause as Error).message}`, { cause })
  }
  if (!fits) throw new SpiffeError('file_unusable', `the key in ${keyPath} is not that of the certificate in ${certificatePath}`)
  const { validToDate } = certificate
  if (validToDate < clock.now()) {
    log.warn({ path: certificatePath, notAfter: validToDate.toISOString() }, 'the bundle endpoint\'s certificate has expired')
  }
  return { cert, key }
}

async function markOf ({ certificatePath, keyPath }: CertificatePaths): Promise<string> {
  const marks = await Promise.all([certificatePath, keyPath].map(async path => {
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
  return new SpiffeError('file_unusable', `cannot read ${path}: ${(cause as Error).message}`, { cause })
}
