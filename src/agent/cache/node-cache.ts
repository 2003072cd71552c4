import { z } from 'zod'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { Entry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { RevocationKind } from '../../spiffe/revocation.ts'
import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { ServiceEndpoint } from '../../spiffe/service-endpoint.ts'
import type { Service } from '../../spiffe/service.ts'
import { decodeBundle, encodeBundle } from '../../wire/bundle-codec.ts'
import type { LogPlace } from '../../wire/cursor-codec.ts'
import { decodeMessage } from '../../wire/decode-message.ts'
import { encodeMessage } from '../../wire/encode-message.ts'
import { decodeEntry, encodeEntry } from '../../wire/entry-codec.ts'
import { decodeEndpoint, decodeService, encodeEndpoint, encodeService } from '../../wire/service-codec.ts'
import { Endpoint as EndpointMessage, Service as ServiceMessage } from '../../wire/generated/assay-types.ts'
import { Bundle as BundleMessage, Entry as EntryMessage } from '../../wire/generated/types.ts'
import { usableBundle } from '../own-bundle.ts'
import type { PushedPolicies } from '../node-policies.ts'
import type { KnownRevocation } from '../revocations.ts'

/** What an agent knew when it last heard from a server: enough to go on serving without one. */
export interface NodeCache {
  readonly agentId: SpiffeId
  /** Grows with each write of the cache. */
  readonly generation: number
  readonly writtenAt: Date
  /** When a server last answered. */
  readonly heardAt: Date
  /** Up to where in the log of changes all is known. */
  readonly cursor: LogPlace | undefined
  readonly entries: readonly Entry[]
  /** The own one first. */
  readonly bundles: readonly Bundle[]
  readonly svids: readonly KeptSvid[]
  /** `undefined` of an agent that has nothing to do with services. */
  readonly mesh?: { readonly services: readonly Service[], readonly endpoints: readonly ServiceEndpoint[] } | undefined
  readonly revocations: readonly KnownRevocation[]
  /** What was served; `undefined`: that was not known yet. */
  readonly policies?: PushedPolicies | undefined
}

/** An X509-SVID as it is kept while the agent does not run. */
export interface KeptSvid {
  readonly entryId: string
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  /** PKCS#8, DER. Secret. */
  readonly privateKey: Uint8Array
  readonly receivedAtMs: number
  readonly renewAtMs: number
}

const whole = z.int().min(0)
const revocationKinds = ['svid', 'spiffe_id', 'node'] as const satisfies readonly RevocationKind[]
const documentSchema = z.strictObject({
  agent: z.string(),
  generation: whole,
  written_at: whole,
  heard_at: whole,
  cursor: z.strictObject({ epoch: z.string(), number: whole }).optional(),
  entries: z.array(z.base64()),
  bundles: z.array(z.base64()).min(1),
  svids: z.array(z.strictObject({
    entry: z.string(), chain: z.array(z.base64()).min(1), private_key: z.base64(), received_at: z.number(), renew_at: z.number()
  })),
  services: z.array(z.base64()).optional(),
  endpoints: z.array(z.base64()).optional(),
  policies: z.strictObject({
    version: whole, revision: z.string(), texts: z.array(z.tuple([z.string(), z.string()])),
    selected: z.array(z.tuple([z.string(), z.array(z.string())]))
  }).optional(),
  // Earlier versions wrote none.
  revocations: z.array(z.strictObject({
    id: z.string(), kind: z.enum(revocationKinds), subject: z.string(), digests: z.array(z.string()), expires_at: whole
  })).default([])
})

/** Most of what is kept is what was kept the last time. */
const texts = new WeakMap<object, string>()

export function encodeNodeCache (cache: NodeCache): Uint8Array {
  const document: z.input<typeof documentSchema> = {
    agent: cache.agentId,
    generation: cache.generation,
    written_at: cache.writtenAt.getTime(),
    heard_at: cache.heardAt.getTime(),
    ...cache.cursor === undefined ? {} : { cursor: cache.cursor },
    entries: cache.entries.map(entry => textOf(entry, () => encodeMessage(EntryMessage, encodeEntry(entry)))),
    bundles: cache.bundles.map(bundle => textOf(bundle, () => encodeMessage(BundleMessage, encodeBundle(bundle)))),
    svids: cache.svids.map(({ entryId, chain, privateKey, receivedAtMs, renewAtMs }) => ({
      entry: entryId, chain: chain.map(base64), private_key: base64(privateKey), received_at: receivedAtMs, renew_at: renewAtMs
    })),
    ...cache.mesh === undefined ? {} : {
      services: cache.mesh.services.map(service => textOf(service, () => encodeMessage(ServiceMessage, encodeService(service)))),
      endpoints: cache.mesh.endpoints.map(endpoint => textOf(endpoint, () => encodeMessage(EndpointMessage, encodeEndpoint(endpoint))))
    },
    ...cache.policies === undefined ? {} : { policies: encodePolicies(cache.policies) },
    revocations: cache.revocations.map(({ id, kind, subject, certificateDigests, expiresAt }) => ({
      id, kind, subject, digests: [...certificateDigests], expires_at: expiresAt.getTime()
    }))
  }
  return Buffer.from(JSON.stringify(document))
}

/** @throws {SpiffeError} `cache_unusable` */
export function decodeNodeCache (bytes: Uint8Array): NodeCache {
  try {
    const document = documentSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')))
    return {
      agentId: parseSpiffeId(document.agent),
      generation: document.generation,
      writtenAt: new Date(document.written_at),
      heardAt: new Date(document.heard_at),
      cursor: document.cursor,
      entries: document.entries.map(text => decodeEntry(decodeMessage(EntryMessage, fromBase64(text)))),
      bundles: document.bundles.map(text => usableBundle(decodeBundle(decodeMessage(BundleMessage, fromBase64(text))))),
      svids: document.svids.map(svid => ({
        entryId: svid.entry,
        chain: svid.chain.map(fromBase64),
        privateKey: fromBase64(svid.private_key),
        receivedAtMs: svid.received_at,
        renewAtMs: svid.renew_at
      })),
      mesh: document.services && {
        services: document.services.map(text => decodeService(decodeMessage(ServiceMessage, fromBase64(text)))),
        endpoints: (document.endpoints ?? []).map(text => decodeEndpoint(decodeMessage(EndpointMessage, fromBase64(text))))
      },
      policies: document.policies && {
        version: document.policies.version,
        revision: document.policies.revision,
        texts: document.policies.texts.map(([name, text]) => ({ name, text })),
        selected: new Map(document.policies.selected.map(([key, ids]) => [key, new Set(ids.map(id => parseSpiffeId(id)))]))
      },
      revocations: document.revocations.map(({ digests, expires_at: expiresAt, subject, ...same }) => ({
        ...same, subject: parseSpiffeId(subject), certificateDigests: digests, expiresAt: new Date(expiresAt)
      }))
    }
  } catch (error) {
    throw new SpiffeError('cache_unusable', 'its content cannot be read', { cause: error })
  }
}

function encodePolicies ({ version, revision, texts, selected }: PushedPolicies): z.input<typeof documentSchema>['policies'] {
  return {
    version, revision, texts: texts.map(({ name, text }) => [name, text]), selected: [...selected].map(([key, ids]) => [key, [...ids]])
  }
}

function textOf (value: object, encode: () => Uint8Array): string {
  let text = texts.get(value)
  if (text === undefined) texts.set(value, text = base64(encode()))
  return text
}

function base64 (bytes: Uint8Array): string { return Buffer.from(bytes).toString('base64') }
function fromBase64 (text: string): Uint8Array { return new Uint8Array(Buffer.from(text, 'base64')) }
