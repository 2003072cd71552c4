import type { Test } from 'tap'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Agent } from '../../src/spiffe/agent.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseFederationRelationship, type FederationRelationship } from '../../src/spiffe/federation-relationship.ts'
import { plainEntry, type EntryDraft } from '../../src/spiffe/entry.ts'
import { parseSelector, type Selector } from '../../src/spiffe/selector.ts'
import { parseSpiffeId, type SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { ManualClock } from '../fakes/clock.ts'

/** What the contract needs to know about one kind of database. */
export interface DatabaseKind {
  readonly kind: Datastore['kind']
  /** The URL of an empty database. */
  fresh (t: Test): Promise<string>
  /** Runs SQL past the code under test. */
  execute (url: string, text: string): Promise<Array<Record<string, unknown>>>
}

export const now = new Date('2026-01-01T00:00:00Z')

/** A store on a database of its own, closed when the test ends. */
export async function openFresh (t: Test, database: DatabaseKind): Promise<{ store: Datastore, clock: ManualClock, url: string }> {
  const clock = new ManualClock(now)
  const url = await database.fresh(t)
  const store = await openDatastore(url, { clock, log: silentLogger })
  t.teardown(() => store[Symbol.asyncDispose]())
  return { store, clock, url }
}

export function id (path: string): SpiffeId { return parseSpiffeId(`spiffe://example.org${path}`) }

export function domain (name: string): TrustDomain { return parseTrustDomain(name) }

export function selectors (...texts: string[]): Selector[] { return texts.map(parseSelector) }

export const everyPage = { size: 0, token: '' }

/** An entry `/name` below the node `/node`, unless told otherwise. */
export function draft (name: string, rest: Partial<EntryDraft> = {}): EntryDraft {
  return {
    ...plainEntry,
    spiffeId: id(`/${name}`),
    parentId: id('/spire/agent/join_token/node'),
    selectors: selectors('unix:uid:1000'),
    ...rest
  }
}

export function agent (name: string, rest: Partial<Agent> = {}): Agent {
  return {
    id: id(`/spire/agent/join_token/${name}`),
    attestationType: 'join_token',
    serialNumber: 'a1',
    expiresAt: new Date('2026-01-01T01:00:00Z'),
    canReattest: false,
    selectors: [],
    banned: false,
    agentVersion: '',
    ...rest
  }
}

export function bundle (name: string, rest: Partial<Bundle> = {}): Bundle {
  return { trustDomain: domain(name), x509Authorities: [], jwtAuthorities: [], sequenceNumber: 1n, ...rest }
}

/** @param endpointId of `https_spiffe`; without it the profile is `https_web` */
export function relationship (trustDomain: string, endpointId?: string, url = `https://${trustDomain}/bundle`): FederationRelationship {
  const raw = { trustDomain, url, httpsWeb: endpointId === undefined, httpsSpiffe: endpointId }
  return parseFederationRelationship(raw, domain('example.org'))
}
