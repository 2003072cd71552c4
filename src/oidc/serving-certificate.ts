import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'

export interface CertificateFiles {
  /** PEM: the certificate, then those between it and a root. */
  readonly certPath: string
  /** PEM, not encrypted. */
  readonly keyPath: string
}

export interface ServingPair {
  readonly cert: string
  readonly key: string
  readonly leaf: X509Certificate
  readonly notAfter: Date
}

/** A web server's certificate in files, which others renew. */
export class ServingCertificate {
  readonly #files: CertificateFiles
  readonly #clock: Pick<Clock, 'now'>
  #seen: string
  #current: ServingPair

  /** @throws {SpiffeError} `file_unusable` when a file is missing, the key is another one's, or the certificate has expired */
  constructor (files: CertificateFiles, clock: Pick<Clock, 'now'>) {
    this.#files = files
    this.#clock = clock
    this.#seen = stateOf(files)
    this.#current = readPair(files, clock.now())
  }

  get current (): ServingPair { return this.#current }

  /**
   * Looks whether the files have changed. Their state is taken before they are read: what is written meanwhile is found next time.
   * @returns whether there is another certificate now
   * @throws {SpiffeError} `file_unusable`; the one before stays, and what is there is not looked at again until it changes
   */
  refresh (): boolean {
    const now = stateOf(this.#files)
    if (now === this.#seen) return false
    this.#seen = now
    this.#current = readPair(this.#files, this.#clock.now())
    return true
  }
}

/** Takes over renewed files until the signal aborts. @param take given each new pair */
export async function followCertificate (
  certificate: ServingCertificate, everyMs: number, take: (pair: ServingPair) => void, { clock, log }: { clock: Clock, log: Logger },
  signal: AbortSignal
): Promise<void> {
  for (;;) {
    await clock.sleep(everyMs, signal)
    try {
      if (!certificate.refresh()) continue
      take(certificate.current)
      log.info({ notAfter: certificate.current.notAfter }, 'new serving certificate taken over')
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      log.error({ code: error.code, reason: error.message }, 'the serving certificate\'s files cannot be used: the one before goes on')
    }
  }
}

function readPair ({ certPath, keyPath }: CertificateFiles, now: Date): ServingPair {
  const cert = textOf(certPath)
  const key = textOf(keyPath)
  const leaf = understood(certPath, () => new X509Certificate(cert))
  const privateKey = understood(keyPath, () => createPrivateKey(key))
  if (!leaf.checkPrivateKey(privateKey)) {
    throw new SpiffeError('file_unusable', `${keyPath} is not the key of the certificate in ${certPath}`)
  }
  understood(certPath, () => createSecureContext({ cert, key }))
  const notAfter = new Date(leaf.validTo)
  if (notAfter <= now) throw new SpiffeError('file_unusable', `the certificate in ${certPath} expired at ${notAfter.toISOString()}`)
  return { cert, key, leaf, notAfter }
}

function understood<T> (path: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    throw new SpiffeError('file_unusable', `${path} is no certificate or no unencrypted key in PEM`, { cause })
  }
}

/** Changes with either file; files that are away are a state too. */
function stateOf ({ certPath, keyPath }: CertificateFiles): string {
  return [certPath, keyPath].map(path => {
    const stat = statSync(path, { throwIfNoEntry: false, bigint: true })
    return stat === undefined ? 'missing' : `${stat.mtimeNs} ${stat.size} ${stat.ino}`
  }).join()
}

function textOf (path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(cause as Error).message}`, { cause })
  }
}
