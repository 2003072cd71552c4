// A workload in a pod: plain HTTP in both directions, no certificate, no SPIFFE library, no idea of a proxy. It answers who it is and,
// from the header that its node's Envoy sets, who calls.
// usage: node pod.ts NAME PORT     reads `{"id":…,"host":…,"port":…}`, a call a line, from standard input, and ends with it
import { createServer, request } from 'node:http'
import { createInterface } from 'node:readline'

const [name, ownPort] = process.argv.slice(2)
const patienceMs = 15_000

createServer((incoming, response) => {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify({ workload: name, caller: incoming.headers['x-forwarded-client-cert'] ?? null }))
}).listen(Number(ownPort), '0.0.0.0', () => console.log('listening'))

for await (const line of createInterface({ input: process.stdin })) call(JSON.parse(line) as Order)
process.exit()

interface Order { readonly id: number, readonly host: string, readonly port: number }

/** A connection for itself, so that what holds now decides. */
function call ({ id, host, port }: Order): void {
  const tell = (status: number, body: string) => console.log(JSON.stringify({ id, status, body }))
  const failed = (error: Error) => tell(0, error.message)
  const sent = request({ host, port, path: '/', agent: false, timeout: patienceMs }, response => {
    let body = ''
    response.setEncoding('utf8').on('data', text => { body += text }).on('error', failed)
      .on('end', () => tell(response.statusCode ?? 0, body))
  })
  sent.on('timeout', () => sent.destroy(new Error('no answer'))).on('error', failed).end()
}
