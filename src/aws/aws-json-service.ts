import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps } from 'node:https'
import type { SignatureV4 } from '@smithy/signature-v4'
import { isJsonObject, parseStrictJsonObject, type JsonObject } from '../spiffe/strict-json.ts'
import type { AwsAccess } from './aws-client.ts'
import { openRequestSigner } from './request-signer.ts'

/** How a service is called: the first part of its host, which is its name in signatures too, and what its actions begin with. */
export interface AwsServiceName { readonly host: string, readonly target: string }

/** Bytes of an answer. */
const maxAnswer = 1024 * 1024

/**
 * A service that speaks AWS's JSON 1.1 protocol, for those that have no client of their own among our packages. Credentials and signatures
 * are the SDK's. Failures look like its exceptions: `awsFailureOf` reads both.
 */
export class AwsJsonService implements AsyncDisposable {
  readonly #url: URL
  readonly #target: string
  readonly #signer: SignatureV4
  readonly #close: () => void

  private constructor (url: URL, target: string, signer: SignatureV4, close: () => void) {
    this.#url = url
    this.#target = target
    this.#signer = signer
    this.#close = close
  }

  static async open (access: AwsAccess, { host, target }: AwsServiceName): Promise<AwsJsonService> {
    const { signer, close } = await openRequestSigner(access, host, true)
    return new AwsJsonService(new URL(access.endpoint ?? endpointOf(host, access.region)), target, signer, close)
  }

  /**
   * One call, once, over a connection of its own.
   * @throws {Error} as `awsFailureOf` reads it
   */
  async call (action: string, question: object, signal: AbortSignal): Promise<JsonObject> {
    const body = JSON.stringify(question)
    const { hostname, host, port, protocol } = this.#url
    const signed = await this.#signer.sign({
      method: 'POST', protocol, hostname, path: '/', query: {}, body,
      ...port === '' ? {} : { port: Number(port) },
      headers: { host, 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `${this.#target}.${action}` }
    })
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const ask = (protocol === 'http:' ? requestHttp : requestHttps)(this.#url, {
        method: 'POST', agent: false, signal, headers: { ...signed.headers, 'content-length': Buffer.byteLength(body) }
      }, resolve)
      ask.on('error', reject).end(body)
    })
    return readAnswer(response.statusCode ?? 0, await readBody(response))
  }

  async [Symbol.asyncDispose] (): Promise<void> { this.#close() }
}

function endpointOf (host: string, region: string): string {
  return `https://${host}.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`
}

async function readBody (response: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of response as AsyncIterable<Buffer>) {
    bytes += part.length
    if (bytes > maxAnswer) {
      response.destroy()
      throw failure('SerializationError', `more than ${maxAnswer} bytes`, response.statusCode ?? 0)
    }
    parts.push(part)
  }
  return Buffer.concat(parts)
}

function readAnswer (status: number, text: Uint8Array): JsonObject {
  let answer: JsonObject
  try {
    answer = parseStrictJsonObject(text, { maxLength: maxAnswer })
  } catch {
    throw failure('SerializationError', 'an answer that is no JSON object', status)
  }
  if (status === 200 && isJsonObject(answer)) return answer
  const { __type: type, message, Message } = answer
  const name = typeof type === 'string' ? type.split('#').at(-1) ?? '' : `status ${status}`
  throw failure(name, [message, Message].find(said => typeof said === 'string') ?? '', status)
}

function failure (name: string, message: string, httpStatusCode: number): Error {
  return Object.assign(new Error(message), { name, $metadata: { httpStatusCode } })
}
