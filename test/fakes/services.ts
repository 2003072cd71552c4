import { checkService, type RawServiceDraft } from '../../src/spiffe/check-service.ts'
import { checkLocalEndpoint, endpointOf, type LocalEndpoint, type ServiceEndpoint } from '../../src/spiffe/service-endpoint.ts'
import type { Service, ServiceDraft } from '../../src/spiffe/service.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { idOf } from './entries.ts'

const raw: RawServiceDraft = {
  id: '', name: 'web', address: '', ports: [{ name: '', port: 80, targetPort: 8080, protocol: 'http', localPort: 0 }],
  spiffeIds: ['spiffe://example.org/web'], callers: undefined, staticEndpoints: [], inbound: ''
}

/** A service of trust domain example.org, as it would be sent. */
export function rawService (more: Partial<RawServiceDraft> = {}): RawServiceDraft { return { ...raw, ...more } }

export function makeServiceDraft (more: Partial<RawServiceDraft> = {}): ServiceDraft { return checkService(rawService(more)) }

/** @param more `revisionNumber` 0 unless given */
export function makeService (
  { revisionNumber = 0, ...more }: Partial<RawServiceDraft> & { readonly revisionNumber?: number } = {}
): Service {
  return { ...makeServiceDraft({ id: more.name ?? raw.name, ...more }), revisionNumber, createdAtSeconds: 1_767_225_600 }
}

/** @param path of the SPIFFE ID in example.org */
export function makeLocalEndpoint (path = '/web', address = '10.0.0.1', more: Partial<Pick<LocalEndpoint, 'incarnation' | 'node'>> = {}) {
  return checkLocalEndpoint({ spiffeId: idOf(path), address, node: 'node-1', transports: ['hbone'], incarnation: '1', ...more })
}

/** @param agent `spiffe://example.org/spire/agent/join_token/<agent>` */
export function makeEndpoint (agent: string, ...local: Parameters<typeof makeLocalEndpoint>): ServiceEndpoint {
  return endpointOf(parseSpiffeId(`spiffe://example.org/spire/agent/join_token/${agent}`), makeLocalEndpoint(...local))
}
