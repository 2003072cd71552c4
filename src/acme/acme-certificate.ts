import acme from 'acme-client'
import { X509Certificate } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { Agent } from 'node:https'
import { join } from 'node:path'
import { getCACertificates, type SecureContext, type SecureContextOptions } from 'node:tls'
import { writeFileAtomically } from '../runtime/atomic-file.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { readIfThere } from '../runtime/read-if-there.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { orderCertificate, type OrderedCertificate } from './order-certificate.ts'

export interface AcmeOptions {
  readonly directoryUrl: string
  /** At least one; each must lead to this process, on port 443. */
  readonly domainNames: readonly string[]
  readonly email: string
  /** PEM: whom the CA's own endpoint may be certified by, beside the web's roots. */
  readonly caPath: string | undefined
  /** Keeps account and certificate, 0700: a restart orders nothing. */
  readonly folder: string
}

export interface AcmeDeps { readonly clock: Clock, readonly log: Logger }

/** Of a certificate's life: the rest is for trying again. */
const renewAfter = 2 / 3
const [shortestPauseMs, longestPauseMs, lookEveryMs] = [60_000, 3_600_000, 3_600_000]

/**
 * A certificate of the web that this process gets and renews itself (RFC 8555). Until there is a first one, whoever connects is sent away,
 * but for the CA that looks for the challenge. Only one process may answer for the domain: the CA must meet the one that ordered.
 */
export class AcmeCertificate {
  readonly #options: AcmeOptions
  readonly #deps: AcmeDeps
  readonly #accountKey: string
  #current: (OrderedCertificate & { readonly renewAt: Date }) | undefined
  #challenge: SecureContext | undefined

  private constructor (options: AcmeOptions, deps: AcmeDeps, accountKey: string, kept: OrderedCertificate | undefined) {
    this.#options = options
    this.#deps = deps
    this.#accountKey = accountKey
    this.#current = kept && { ...kept, renewAt: renewAtOf(kept.cert) }
  }

  /** @throws {SpiffeError} `file_unusable` */
  static async open (options: AcmeOptions, deps: AcmeDeps): Promise<AcmeCertificate> {
    const { folder, caPath } = options
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      // Of the library's own connections alone.
      Object.assign(acme.axios.defaults, { timeout: 30_000 })
      // Trying again is this one's part.
      Object.assign(libraryDefaults().acmeSettings, { retryMaxAttempts: 0 })
      if (caPath !== undefined) {
        acme.axios.defaults.httpsAgent = new Agent({ ca: [...getCACertificates('default'), await readFile(caPath, 'utf8')] })
      }
      const accountFile = join(folder, 'account.pem')
      let accountKey = await readIfThere(accountFile)
      if (accountKey === undefined) {
        accountKey = (await acme.crypto.createPrivateEcdsaKey('P-256')).toString()
        await writeFileAtomically(accountFile, accountKey, { mode: 0o600 })
      }
      return new AcmeCertificate(options, deps, accountKey, await readKept(options, deps))
    } catch (cause) {
      throw new SpiffeError('file_unusable', `cannot use ${folder} for ACME: ${(cause as Error).message}`, { cause })
    }
  }

  /** Another object when it has changed; undefined until there is one. */
  current (): SecureContextOptions | undefined { return this.#current }

  /** What the CA is to see while an order is under way. */
  challenge (): SecureContext | undefined { return this.#challenge }

  /** Orders and renews until the signal aborts, and throws its reason then. A failure leaves the certificate before in use. */
  async run (signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps
    for (let pauseMs = shortestPauseMs; ;) {
      const waitMs = (this.#current?.renewAt.getTime() ?? 0) - clock.now().getTime()
      if (waitMs > 0) {
        await clock.sleep(Math.min(waitMs, lookEveryMs), signal)
        continue
      }
      try {
        await this.#renew(signal)
        pauseMs = shortestPauseMs
      } catch (error) {
        signal.throwIfAborted()
        const { code, message } = error as SpiffeError
        log.error({ code, reason: message, againInMs: pauseMs }, 'no certificate by ACME; trying again')
        await clock.sleep(pauseMs, signal)
        pauseMs = Math.min(2 * pauseMs, longestPauseMs)
      }
    }
  }

  async #renew (signal: AbortSignal): Promise<void> {
    const { directoryUrl, domainNames, email, folder } = this.#options
    const ordered = orderCertificate({
      directoryUrl, domainNames, email, accountKey: this.#accountKey, showChallenge: context => { this.#challenge = context },
      pause: ms => this.#deps.clock.sleep(ms, signal)
    })
    const { cert, key } = await unlessAborted(ordered, signal)
    await writeFileAtomically(join(folder, fileOf(domainNames)), `${key.trimEnd()}\n${cert}`, { mode: 0o600 })
    this.#current = { cert, key, renewAt: renewAtOf(cert) }
    const { renewAt } = this.#current
    const { validToDate: notAfter } = new X509Certificate(cert)
    this.#deps.log.info({ domainNames, notAfter, renewAt }, 'certificate ordered by ACME')
  }
}

function libraryDefaults () { return acme.axios.defaults as typeof acme.axios.defaults & { readonly acmeSettings: object } }

/** The library knows no signal: what it still does then concerns nobody. */
async function unlessAborted<T> (work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason as Error)
  signal.addEventListener('abort', abort, { once: true })
  try {
    signal.throwIfAborted()
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', abort)
    work.catch(() => undefined)
  }
}

function fileOf ([first]: readonly string[]): string { return `${encodeURIComponent(first as string)}.pem` }

async function readKept ({ folder, domainNames }: AcmeOptions, { clock, log }: AcmeDeps): Promise<OrderedCertificate | undefined> {
  const text = await readIfThere(join(folder, fileOf(domainNames)))
  const at = text?.indexOf('-----BEGIN CERTIFICATE-----') ?? -1
  if (text === undefined || at < 0) return undefined
  const kept = { key: text.slice(0, at), cert: text.slice(at) }
  const leaf = new X509Certificate(kept.cert)
  const expired = leaf.validToDate <= clock.now()
  if (!expired && domainNames.every(name => leaf.checkHost(name) !== undefined)) return kept
  log.warn({ domainNames, expired }, 'the certificate of ACME that was kept has expired, or lacks a name: ordering another one')
  return undefined
}

function renewAtOf (cert: string): Date {
  const { validFromDate, validToDate } = new X509Certificate(cert)
  const [from, to] = [validFromDate.getTime(), validToDate.getTime()]
  return new Date(from + renewAfter * (to - from))
}
