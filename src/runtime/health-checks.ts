import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { Logger } from './logger.ts'

/** Whoever asks for nothing is gone before long; enough connections that an orchestrator is not locked out meanwhile. */
const serverOptions = {
  requestTimeout: 5000, headersTimeout: 5000, connectionsCheckingInterval: 1000, keepAliveTimeout: 1000, maxHeaderSize: 8192
} as const
const maxConnections = 2048

/** What is asked of one part of the process; throws, or rejects, when it is not well. */
export type Probe = () => unknown

export interface HealthListenOptions {
  readonly host: string
  /** 0 lets the system choose. */
  readonly port: number
  readonly livePath: string
  readonly readyPath: string
}

/**
 * Answers an orchestrator's probes over HTTP until the signal aborts: 200 while all is well, 500 otherwise, with a JSON object of
 * subsystem → `ok` or what failed. The process answering at all is what "live" means.
 */
export async function serveHealthChecks (
  probes: Readonly<Record<string, Probe>>, options: HealthListenOptions, log: Logger, signal: AbortSignal
): Promise<void> {
  const server = createServer(serverOptions, (request, response) => {
    const path = request.url?.split('?')[0]
    const answer = path === options.livePath ? Promise.resolve({}) : path === options.readyPath ? ask(probes) : undefined
    if (answer === undefined || request.method !== 'GET') {
      response.writeHead(answer === undefined ? 404 : 405).end()
      return
    }
    answer.then(results => {
      const well = Object.values(results).every(result => result === 'ok')
      response.writeHead(well ? 200 : 500, { 'content-type': 'application/json' }).end(JSON.stringify(results))
    }, (error: unknown) => {
      log.error({ err: error }, 'health check failed to answer')
      response.writeHead(500).end()
    })
  })
  server.maxConnections = maxConnections
  server.listen({ host: options.host, port: options.port, signal })
  await once(server, 'listening', { signal })
  const { port } = server.address() as AddressInfo
  log.info({ host: options.host, port }, 'health checks are served')
  signal.addEventListener('abort', () => server.closeAllConnections(), { once: true })
  await once(server, 'close')
}

async function ask (probes: Readonly<Record<string, Probe>>): Promise<Record<string, string>> {
  return Object.fromEntries(await Promise.all(Object.entries(probes).map(async ([name, probe]) => {
    try {
      await probe()
      return [name, 'ok']
    } catch (error) {
      return [name, error instanceof Error ? error.message : 'failed']
    }
  }))) as Record<string, string>
}
