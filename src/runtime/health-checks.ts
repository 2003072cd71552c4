import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { Clock } from './clock.ts'
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

/** SPIRE's form of what is answered: per subsystem the key under which it says what failed there. */
export type FailureKeys = Readonly<Record<string, string>>

/** What failed by subsystem; `undefined`: it is well. */
type Findings = ReadonlyMap<string, string | undefined>

const longWellMs = 60_000
const longIllMs = 1_000

/** Asks no more than once a minute while all is well, and once a second otherwise: as often as SPIRE looks by itself. */
export function remembered (probe: Probe, clock: Clock): Probe {
  let last: Promise<unknown> | undefined
  let goodUntilMs = Number.NEGATIVE_INFINITY
  return async () => {
    if (last !== undefined && clock.monotonicMs() < goodUntilMs) return await last
    const asked = Promise.resolve().then(probe)
    last = asked
    // Who comes while it is asked waits for the same answer.
    goodUntilMs = Number.POSITIVE_INFINITY
    const keepFor = (ms: number) => { goodUntilMs = clock.monotonicMs() + ms }
    asked.then(() => keepFor(longWellMs), () => keepFor(longIllMs))
    return await asked
  }
}

/**
 * Answers an orchestrator's probes over HTTP until the signal aborts: 200 while all is well, 500 otherwise, with a JSON object of
 * subsystem → `ok` or what failed, or with `failureKeys` as SPIRE does. The process answering at all is what "live" means.
 */
export async function serveHealthChecks (
  probes: Readonly<Record<string, Probe>>, options: HealthListenOptions, log: Logger, signal: AbortSignal, failureKeys?: FailureKeys
): Promise<void> {
  const live: Findings = new Map(Object.keys(failureKeys ?? {}).map(name => [name, undefined]))
  const server = createServer(serverOptions, (request, response) => {
    const path = request.url?.split('?')[0]
    const answer = path === options.livePath ? Promise.resolve(live) : path === options.readyPath ? ask(probes) : undefined
    if (answer === undefined || request.method !== 'GET') {
      response.writeHead(answer === undefined ? 404 : 405).end()
      return
    }
    answer.then(findings => {
      const well = [...findings.values()].every(failure => failure === undefined)
      response.writeHead(well ? 200 : 500, { 'content-type': 'application/json' }).end(write(findings, failureKeys))
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

async function ask (probes: Readonly<Record<string, Probe>>): Promise<Findings> {
  return new Map(await Promise.all(Object.entries(probes).map(async ([name, probe]): Promise<[string, string | undefined]> => {
    try {
      await probe()
      return [name, undefined]
    } catch (error) {
      return [name, error instanceof Error ? error.message : 'failed']
    }
  })))
}

function write (findings: Findings, failureKeys: FailureKeys | undefined): string {
  const told = [...findings].map(([name, failure]) => {
    const key = failureKeys?.[name]
    if (key === undefined) return [name, failure ?? 'ok']
    return [name, failure === undefined ? {} : { [key]: failure }]
  })
  return JSON.stringify(Object.fromEntries(told))
}
