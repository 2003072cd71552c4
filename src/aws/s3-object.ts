import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps } from 'node:https'
import type { AwsAccess } from './aws-client.ts'
import { openRequestSigner, type RequestSigner } from './request-signer.ts'

export interface S3ObjectName {
  readonly bucket: string
  /** Without a slash in front. */
  readonly key: string
}

/** Characters of an answer that are kept: a refusal. */
const longestAnswer = 8_192

/**
 * One object of S3, or of a store like it, which is written as a whole. Credentials and signatures are the SDK's; failures look like its
 * exceptions, so that `awsFailureOf` reads them.
 */
export class S3Object implements AsyncDisposable {
  readonly #url: URL
  readonly #signer: RequestSigner

  private constructor (url: URL, signer: RequestSigner) {
    this.#url = url
    this.#signer = signer
  }

  static async open (access: AwsAccess, name: S3ObjectName): Promise<S3Object> {
    return new S3Object(urlOf(access, name), await openRequestSigner(access, 's3', false))
  }

  /** Once, over a connection of its own. @throws {Error} as `awsFailureOf` reads it */
  async put (body: string, contentType: string, signal: AbortSignal): Promise<void> {
    const { hostname, host, port, protocol, pathname } = this.#url
    const signed = await this.#signer.signer.sign({
      method: 'PUT', protocol, hostname, path: pathname, query: {}, body,
      ...port === '' ? {} : { port: Number(port) },
      headers: { host, 'content-type': contentType, 'cache-control': 'no-cache' }
    })
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const ask = (protocol === 'http:' ? requestHttp : requestHttps)(this.#url, {
        method: 'PUT', agent: false, signal, headers: { ...signed.headers, 'content-length': Buffer.byteLength(body) }
      }, resolve)
      ask.on('error', reject).end(body)
    })
    const text = await readText(response)
    if (response.statusCode !== 200) throw refusal(response.statusCode ?? 0, text)
  }

  async [Symbol.asyncDispose] (): Promise<void> { this.#signer.close() }
}

/** With the bucket in the host where a certificate for one label fits it, else in the path, as stores like S3 have it. */
function urlOf ({ endpoint, region }: AwsAccess, { bucket, key }: S3ObjectName): URL {
  const path = key.split('/').map(escape).join('/')
  if (endpoint !== undefined) return new URL(`${endpoint.replace(/\/+$/, '')}/${bucket}/${path}`)
  const host = `s3.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`
  return new URL(bucket.includes('.') ? `https://${host}/${bucket}/${path}` : `https://${bucket}.${host}/${path}`)
}

/** As signatures want it. */
function escape (segment: string): string {
  return encodeURIComponent(segment).replaceAll(/[!'()*]/g, character => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}

async function readText (response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const part of response.setEncoding('utf8') as AsyncIterable<string>) {
    if (text.length < longestAnswer) text += part
  }
  return text.slice(0, longestAnswer)
}

function refusal (httpStatusCode: number, xml: string): Error {
  const tag = (name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1]
  return Object.assign(new Error(tag('Message') ?? ''), { name: tag('Code') ?? `status ${httpStatusCode}`, $metadata: { httpStatusCode } })
}
