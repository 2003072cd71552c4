import { readFile } from 'node:fs/promises'
import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps, type RequestOptions } from 'node:https'
import { parseStrictJsonObject, isJsonObject, type JsonObject } from '../../spiffe/strict-json.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

export interface VaultAddress {
  /** `http:` or `https:`. */
  readonly url: URL
  readonly namespace: string | undefined
  /** PEM file; the web's authorities unless given. */
  readonly caPath: string | undefined
  readonly skipVerify: boolean
  /** PEM files that are shown in TLS. */
  readonly client: { readonly certificatePath: string, readonly keyPath: string } | undefined
}

/** Bytes of one answer. */
const maxAnswer = 1024 * 1024
/** Of Vault's words in a message of ours. */
const maxTold = 300

/**
 * One POST of Vault's HTTP API over a connection of its own; files are read anew, so that renewed ones count. Redirects are not followed.
 * @param path below `/v1/`
 * @returns the answer's object
 * @throws {SpiffeError} `upstream_unavailable`, `upstream_refused`, `upstream_invalid`, `file_unusable`; token and body are never told
 */
export async function postToVault (
  address: VaultAddress, path: string, { body, token }: { readonly body: JsonObject, readonly token?: string }, signal: AbortSignal
): Promise<JsonObject> {
  const { url, namespace } = address
  const tls = await tlsOptions(address)
  const text = JSON.stringify(body)
  const options: RequestOptions = {
    method: 'POST', agent: false, signal, ...tls,
    headers: {
      'content-type': 'application/json', 'content-length': Buffer.byteLength(text), 'x-vault-request': 'true',
      ...token === undefined ? {} : { 'x-vault-token': token }, ...namespace === undefined ? {} : { 'x-vault-namespace': namespace }
    }
  }
  const target = new URL(`v1/${path}`, url.href.endsWith('/') ? url : `${url.href}/`)
  let status: number
  let answer: Buffer
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const ask = (url.protocol === 'http:' ? requestHttp : requestHttps)(target, options, resolve)
      ask.on('error', reject).end(text)
    })
    status = response.statusCode ?? 0
    answer = await readAnswer(response, path)
  } catch (error) {
    if (error instanceof SpiffeError) throw error
    throw new SpiffeError('upstream_unavailable', `Vault at ${url.origin} cannot be asked: ${(error as Error).message}`, { cause: error })
  }
  if (status === 200) return parseAnswer(answer, path)
  const code = status >= 500 || status === 429 ? 'upstream_unavailable' : 'upstream_refused'
  throw new SpiffeError(code, `Vault answers ${path} with status ${status}${errorsIn(answer)}`)
}

async function tlsOptions ({ url, caPath, skipVerify, client }: VaultAddress): Promise<RequestOptions> {
  if (url.protocol === 'http:') return {}
  return {
    minVersion: 'TLSv1.2', rejectUnauthorized: !skipVerify,
    ...caPath === undefined ? {} : { ca: await readSecretFile(caPath) },
    ...client === undefined ? {} : { cert: await readSecretFile(client.certificatePath), key: await readSecretFile(client.keyPath) }
  }
}

/** @throws {SpiffeError} `file_unusable` */
export async function readSecretFile (path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
}

async function readAnswer (response: IncomingMessage, path: string): Promise<Buffer> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of response as AsyncIterable<Buffer>) {
    bytes += part.length
    if (bytes > maxAnswer) {
      response.destroy()
      throw new SpiffeError('upstream_invalid', `Vault answers ${path} with more than ${maxAnswer} bytes`)
    }
    parts.push(part)
  }
  return Buffer.concat(parts)
}

function parseAnswer (answer: Uint8Array, path: string): JsonObject {
  try {
    return parseStrictJsonObject(answer, { maxLength: maxAnswer })
  } catch (error) {
    throw new SpiffeError('upstream_invalid', `Vault answers ${path} with what is no JSON object`, { cause: error })
  }
}

function errorsIn (answer: Uint8Array): string {
  try {
    const { errors } = parseStrictJsonObject(answer, { maxLength: maxAnswer })
    const told = Array.isArray(errors) ? errors.filter(error => typeof error === 'string').join('; ') : ''
    return told === '' ? '' : `: ${told.replaceAll(/\s+/g, ' ').slice(0, maxTold)}`
  } catch {
    return ''
  }
}

/** A member that must be an object. @throws {SpiffeError} `upstream_invalid` */
export function objectIn (parent: JsonObject, name: string, path: string): JsonObject {
  const value = parent[name]
  if (isJsonObject(value)) return value
  throw new SpiffeError('upstream_invalid', `Vault answers ${path} without "${name}"`)
}
