import { randomBytes } from 'node:crypto'
import { boundedMatches } from '../../../golang/bounded-matches.ts'
import { GoRegexpError } from '../../../golang/go-regexp.ts'
import type { Clock } from '../../../runtime/clock.ts'
import type { Logger } from '../../../runtime/logger.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'
import type { NodeVerifier } from '../node-verifier.ts'
import { encodeChallenge, type HttpPlace, parsePlace } from './http-payload.ts'
import { readChallenge } from './read-challenge.ts'

export interface HttpVerifierConfig {
  /** Regular expressions in Go's syntax, of which one must be found in the host's name; none: any name. */
  readonly dnsPatterns: readonly string[]
  readonly requiredPort: number | undefined
  /** Whether agents may be at ports that any user of a machine can listen on, from 1024 on. */
  readonly allowsNonRootPorts: boolean
  /** Whether a host attests once only (trust on first use). */
  readonly tofu: boolean
  readonly clock: Clock
  readonly log: Logger
}

const nonceBytes = 32

/** SPIRE's `http_challenge`, the server's half: whoever answers at a host's name and port is that host. */
export function createHttpVerifier (config: HttpVerifierConfig): NodeVerifier {
  return {
    name: 'http_challenge',
    async verify (payload, exchange) {
      const place = parsePlace(payload)
      checkPort(place, config)
      checkHostName(place, config)
      const nonce = `${randomBytes(nonceBytes).toString('base64url')}=`
      await exchange.challenge(encodeChallenge(nonce))
      await checkShown(place, nonce, config, exchange.signal)
      return { idPath: place.hostName, selectors: [`hostname:${place.hostName}`], canReattest: !config.tofu, onlyOnce: config.tofu }
    }
  }
}

function checkPort ({ port }: HttpPlace, { requiredPort, allowsNonRootPorts }: HttpVerifierConfig): void {
  if (requiredPort !== undefined && port !== requiredPort) throw refused(`port ${port} is not allowed to be used by this server`)
  if (!allowsNonRootPorts && port >= 1024) throw refused(`port ${port} is not allowed to be >= 1024`)
}

function checkHostName ({ hostName }: HttpPlace, { dnsPatterns, log }: HttpVerifierConfig): void {
  if (hostName.toLowerCase() === 'localhost') throw refused('you can not use localhost as a hostname')
  if (dnsPatterns.length === 0 || dnsPatterns.some(pattern => isFound(pattern, hostName, log))) return
  throw refused('the requested hostname is not allowed to connect')
}

function isFound (pattern: string, hostName: string, log: Logger): boolean {
  try {
    return boundedMatches(pattern, hostName).length > 0
  } catch (error) {
    if (!(error instanceof GoRegexpError)) throw error
    log.warn({ pattern, reason: error.message }, 'a pattern of allowed_dns_patterns was given up')
    return false
  }
}

/** Why it was not there is for the log alone: who attests is unknown yet, and would learn which ports of which machines are open. */
async function checkShown (place: HttpPlace, nonce: string, { clock, log }: HttpVerifierConfig, signal: AbortSignal): Promise<void> {
  let reason = 'it showed something else'
  try {
    if (await readChallenge(place, clock, signal) === nonce) return
  } catch (error) {
    signal.throwIfAborted()
    reason = (error as Error).message
  }
  log.warn({ host: place.hostName, port: place.port, agentName: place.agentName, reason }, 'the challenge was not shown')
  const where = `port ${place.port} of ${place.hostName}`
  throw refused(`challenge verification failed: expected nonce was not found at ${where}; the server's log says why`)
}

function refused (why: string): SpiffeError { return new SpiffeError('attestation_refused', `http_challenge: ${why}`) }
