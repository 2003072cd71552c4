import { createServer } from 'node:http'
import { once } from 'node:events'
import type { Logger } from './logger.ts'

/** What is asked of one part of the process; throws, or rejects, when it is not well. */
export type Probe = () => unknown

export interface HealthListenOptions {
  readonly host: string
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
  const server = createServer({ requestTimeout: 5000, headersTimeout: 5000, keepAliveTimeout: 1000 }, (request, response) => {
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
  server.listen({ host: options.host, port: options.port, signal })
  await once(server, 'listening', { signal })
  log.info({ host: options.host, port: options.port }, 'health checks are served')
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
