import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface AwsCall {
  /** E.g. `CreateKey`, whichever service it is of. */
  readonly action: string
  readonly headers: IncomingHttpHeaders
  /** Of the query protocol its parameters, else what the JSON has. */
  readonly body: Record<string, unknown>
}

/** What is answered in place of AWS: a status with a text, or `'hang'` for nothing at all, `'cut'` for a connection that is closed. */
export type AwsFault = { readonly status: number, readonly body: string } | 'hang' | 'cut'

/** Stands before moto: sees every call, and answers itself where it is told to. @param behind moto's endpoint */
export async function startAwsGate (behind: string) {
  const calls: AwsCall[] = []
  const gate = { calls, fault: (_call: AwsCall): AwsFault | undefined => undefined, endpoint: '', [Symbol.asyncDispose]: async () => {} }
  const server = createServer((request, response) => {
    void (async () => {
      const parts: Uint8Array[] = []
      for await (const part of request as AsyncIterable<Uint8Array>) parts.push(part)
      const text = Buffer.concat(parts).toString()
      const target = request.headers['x-amz-target']
      const body = target === undefined ? Object.fromEntries(new URLSearchParams(text)) : JSON.parse(text) as Record<string, unknown>
      const call = { action: String(target ?? body['Action']).replace(/^.*\./, ''), headers: request.headers, body }
      calls.push(call)
      const fault = gate.fault(call)
      if (fault === 'hang') return
      if (fault === 'cut') {
        request.socket.destroy()
        return
      }
      if (fault !== undefined) {
        response.writeHead(fault.status, { 'content-type': 'application/x-amz-json-1.1' }).end(fault.body)
        return
      }
      const { host: _, 'content-length': __, connection: ___, ...headers } = request.headers
      const answer = await fetch(behind, { method: 'POST', body: text, headers: headers as Record<string, string> })
      const type = answer.headers.get('content-type') ?? 'application/x-amz-json-1.1'
      response.writeHead(answer.status, { 'content-type': type }).end(Buffer.from(await answer.arrayBuffer()))
    })().catch((error: unknown) => response.destroy(error as Error))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  gate.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  gate[Symbol.asyncDispose] = async () => {
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  return gate
}
