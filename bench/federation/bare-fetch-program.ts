// What a fetch costs at least: a new TLS connection, one GET, JSON, and certificates as Node reads them. Nothing is verified beyond the
// web's chain, compared, stored or told to anybody. Each line of standard input has all the URLs fetched once; the answer is how many
// certificates came.
import { X509Certificate } from 'node:crypto'
import { request } from 'node:http'
import { createInterface } from 'node:readline'
import { connect, createSecureContext } from 'node:tls'
import { withCallers } from '../measure/callers.ts'

export interface BareFetchOptions {
  readonly urls: readonly string[]
  /** PEM; whoever answers is believed without. */
  readonly ca: string | undefined
  readonly callers: number
}

const { urls, ca, callers } = JSON.parse(process.argv[2] as string) as BareFetchOptions
const secureContext = createSecureContext(ca === undefined ? {} : { ca })

process.stdout.write('ready\n')
for await (const line of createInterface({ input: process.stdin })) {
  if (line === '') continue
  let certificates = 0
  await withCallers(callers, urls.length, async index => {
    const count = await fetchOne(urls[index] as string)
    certificates += count
  })
  process.stdout.write(`${certificates}\n`)
}

async function fetchOne (url: string): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const { host, hostname, port, pathname } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port), secureContext, rejectUnauthorized: ca !== undefined })
  request({ createConnection: () => socket, path: pathname, headers: { host } }, response => {
    const parts: Buffer[] = []
    response.on('data', (part: Buffer) => parts.push(part)).on('error', reject).on('end', () => resolve(Buffer.concat(parts)))
  }).on('error', reject).end()
  const { keys } = JSON.parse((await promise).toString()) as { readonly keys: readonly { readonly x5c?: readonly string[] }[] }
  socket.destroy()
  return keys.flatMap(({ x5c = [] }) => x5c).map(certificate => new X509Certificate(Buffer.from(certificate, 'base64'))).length
}
