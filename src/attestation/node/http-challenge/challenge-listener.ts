import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SpiffeError } from '../../../spiffe/errors.ts'

export interface ChallengeListener extends AsyncDisposable {
  readonly port: number
  /** What is shown from now on; nothing before. */
  show (nonce: string): void
}

/** As SPIRE's: who asks slowly is not waited for. */
const timeoutMs = 10_000
const maxConnections = 32

/**
 * Listens on all addresses for the server's question, and answers nothing else.
 * @param port 0 lets the system choose
 * @throws {SpiffeError} `address_unusable`
 */
export async function openChallengeListener (port: number, path: string): Promise<ChallengeListener> {
  let shown: string | undefined
  const options = {
    requestTimeout: timeoutMs, headersTimeout: timeoutMs, keepAlive: false, maxHeaderSize: 8_192, connectionsCheckingInterval: 1_000
  }
  const server = createServer(options, (request, response) => {
    const isIt = request.url === path && shown !== undefined && (request.method === 'GET' || request.method === 'HEAD')
    response.writeHead(isIt ? 200 : 404, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
    response.end(isIt ? `${shown}\n` : undefined)
  })
  server.maxConnections = maxConnections
  try {
    server.listen(port)
    await once(server, 'listening')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new SpiffeError('address_unusable', `http_challenge: could not listen on port ${port}: ${code}`, { cause: error })
  }
  return {
    port: (server.address() as AddressInfo).port,
    show (nonce) { shown = nonce },
    async [Symbol.asyncDispose] () {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    }
  }
}
