import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { AuthzRequest } from '../policy/request.ts'
import type { TestRequest } from './policy-test-schema.ts'

/** All requests that a test means: one for each combination of what it lists. @param time for those that say none */
export function * requestsOf (test: TestRequest, time: Date): Iterable<AuthzRequest> {
  for (const from of listed(test.from)) {
    for (const to of listed(test.to)) {
      for (const port of listed(test.port)) {
        for (const method of listed(test.method)) {
          for (const path of listed(test.path)) yield requestOf(test, { from: idOf(from), to: idOf(to), port, method, path, time })
        }
      }
    }
  }
}

interface Choice {
  readonly from: SpiffeId | undefined
  readonly to: SpiffeId | undefined
  readonly port: number | undefined
  readonly method: string | undefined
  readonly path: string | undefined
  readonly time: Date
}

function requestOf (test: TestRequest, { from, to, port, method, path, time }: Choice): AuthzRequest {
  const { address, remoteAddress, host = '', headers = {}, claims, tls } = test
  const isHttp = method !== undefined || path !== undefined || test.host !== undefined || test.headers !== undefined || claims !== undefined
  return {
    source: { id: from, address, remoteAddress },
    destination: { id: to, port },
    http: isHttp ? {
      method: method ?? 'GET', path: path ?? '/', host, claims,
      headers: new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
    } : undefined,
    // An identity is proved by TLS alone.
    tls: tls ?? (from === undefined ? undefined : { sni: '' }),
    time: test.time ?? time
  }
}

function listed<T> (value: T | readonly T[] | undefined): readonly (T | undefined)[] {
  return Array.isArray(value) ? value as readonly T[] : [value as T | undefined]
}

function idOf (id: SpiffeId | 'none' | undefined): SpiffeId | undefined { return id === 'none' ? undefined : id }
