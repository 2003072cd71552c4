import { isIPv4 } from 'node:net'
import { SpiffeError } from '../../../spiffe/errors.ts'
import { type JsonObject, parseStrictJsonObject } from '../../../spiffe/strict-json.ts'

/** SPIRE's JSON of `http_challenge`. */

/** Where an agent shows what the server asked for. */
export interface HttpPlace {
  /** A DNS name, or an IPv4 address in dots. */
  readonly hostName: string
  /** 1 to 65535. */
  readonly port: number
  /** Which agent behind this port. */
  readonly agentName: string
}

/** Of a message. */
const maxLength = 4_096
const agentNamePattern = /^[a-zA-Z][a-zA-Z0-9-]{0,31}$/
/** As DNS has names, and underscores, which some machines' names have. */
const label = String.raw`\w(?:[\w-]{0,61}\w)?`
const hostNamePattern = new RegExp(String.raw`^(?=.{1,253}$)${label}(?:\.${label})*$`)
/** Such as 2130706433, which resolvers take for 127.0.0.1. */
const numericEnd = /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/i
const noncePattern = /^[A-Za-z0-9_-]{1,86}={0,2}$/

export function encodePlace ({ hostName, port, agentName }: HttpPlace): Uint8Array {
  return encode({ hostname: hostName, agentname: agentName, port })
}

/** @throws {SpiffeError} `attestation_malformed` */
export function parsePlace (payload: Uint8Array): HttpPlace {
  const { hostname, agentname, port } = readObject(payload, 'attestation data')
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65_535) throw malformed('port is invalid: it is 1 to 65535')
  return { hostName: parseHostName(hostname), port, agentName: parseAgentName(agentname) }
}

/** @throws {SpiffeError} `attestation_malformed` */
export function parseHostName (name: unknown): string {
  const isName = typeof name === 'string' && hostNamePattern.test(name)
  if (isName && (isIPv4(name) || !numericEnd.test(name))) return name
  throw malformed('hostname is no DNS name')
}

/** @throws {SpiffeError} `attestation_malformed` */
export function parseAgentName (name: unknown): string {
  if (typeof name === 'string' && agentNamePattern.test(name)) return name
  throw malformed('agent name is not valid: a letter, then letters, digits and -, at most 32')
}

export function encodeChallenge (nonce: string): Uint8Array { return encode({ nonce }) }

/** @returns what to show. @throws {SpiffeError} `attestation_malformed` */
export function parseChallenge (challenge: Uint8Array): string {
  const { nonce } = readObject(challenge, 'the challenge')
  if (typeof nonce === 'string' && noncePattern.test(nonce)) return nonce
  throw malformed('the challenge has no nonce')
}

/** The path at which an agent shows it. */
export function challengePath (agentName: string): string {
  return `/.well-known/spiffe/nodeattestor/http_challenge/${agentName}/challenge`
}

function readObject (json: Uint8Array, what: string): JsonObject {
  try {
    return parseStrictJsonObject(json, { maxLength })
  } catch {
    throw malformed(`${what} is not one JSON object`)
  }
}

function encode (value: object): Uint8Array { return Buffer.from(JSON.stringify(value)) }
function malformed (what: string): SpiffeError { return new SpiffeError('attestation_malformed', `http_challenge: ${what}`) }
