import type { RawEntryDraft } from '../spiffe/check-entry.ts'
import type { Entry } from '../spiffe/entry.ts'
import { normalizeSelectors } from '../spiffe/selector.ts'
import { parseTrustDomainOrId } from '../spiffe/spiffe-id.ts'
import type { Entry as EntryMessage, EntryInit, EntryMask } from './generated/types.ts'
import { decodeSpiffeId, encodeSpiffeId, spiffeIdText } from './spiffe-id-codec.ts'

/** @param mask fields to keep; the id is always kept, everything without a mask (spire-surface §1.2) */
export function encodeEntry (entry: Entry, mask?: EntryMask): EntryInit {
  const message = {
    id: entry.id,
    spiffeId: encodeSpiffeId(entry.spiffeId),
    parentId: encodeSpiffeId(entry.parentId),
    selectors: entry.selectors,
    x509SvidTtl: entry.x509SvidTtlSeconds,
    jwtSvidTtl: entry.jwtSvidTtlSeconds,
    federatesWith: entry.federatesWith,
    admin: entry.admin,
    downstream: entry.downstream,
    expiresAt: entry.expiresAtSeconds,
    dnsNames: entry.dnsNames,
    revisionNumber: entry.revisionNumber,
    storeSvid: entry.storeSvid,
    hint: entry.hint,
    createdAt: entry.createdAtSeconds,
    additionalAttributes: anyOf(entry.additionalAttributes)
  }
  return mask === undefined ? message : masked(message, mask)
}

/** What an agent needs of an entry (spire-surface §2.3); parent, DNS names and lifetimes are the server's business. */
export const agentEntryMask = {
  spiffeId: true,
  parentId: false,
  selectors: true,
  x509SvidTtl: false,
  federatesWith: true,
  admin: true,
  downstream: true,
  expiresAt: false,
  dnsNames: false,
  revisionNumber: true,
  storeSvid: true,
  jwtSvidTtl: false,
  hint: true,
  additionalAttributes: true,
  createdAt: true
} as const satisfies EntryMask

/** A new or changed entry as sent, before `checkEntry`. */
export function decodeEntryDraft (message: EntryMessage): RawEntryDraft {
  return {
    id: message.id,
    spiffeId: spiffeIdText(message.spiffeId),
    parentId: spiffeIdText(message.parentId),
    selectors: message.selectors,
    x509SvidTtlSeconds: message.x509SvidTtl,
    jwtSvidTtlSeconds: message.jwtSvidTtl,
    federatesWith: message.federatesWith,
    dnsNames: message.dnsNames,
    admin: message.admin,
    downstream: message.downstream,
    storeSvid: message.storeSvid,
    hint: message.hint,
    expiresAtSeconds: Number(message.expiresAt),
    additionalAttributes: attributesOf(message)
  }
}

/**
 * An entry from a server, which need not send the parent, DNS names and lifetimes (agents do not ask for them).
 * @param parentId what to take for a parent that was not sent
 * @throws {SpiffeError} `spiffe_id_malformed`, `trust_domain_malformed`
 */
export function decodeEntry (message: EntryMessage, parentId?: Entry['parentId']): Entry {
  return {
    ...decodeEntryDraft(message),
    spiffeId: decodeSpiffeId(message.spiffeId),
    parentId: message.parentId === undefined && parentId !== undefined ? parentId : decodeSpiffeId(message.parentId),
    selectors: normalizeSelectors(message.selectors),
    federatesWith: message.federatesWith.map(parseTrustDomainOrId),
    revisionNumber: Number(message.revisionNumber),
    createdAtSeconds: Number(message.createdAt)
  }
}

/** The draft's fields that an input mask names; all without a mask. */
export function maskedDraft<T extends object> (draft: T, mask: EntryMask | undefined): Partial<T> {
  if (mask === undefined) return draft
  return Object.fromEntries(Object.entries(draft).filter(([name]) => mask[maskNames[name as keyof typeof maskNames]])) as Partial<T>
}

const maskNames = {
  spiffeId: 'spiffeId',
  parentId: 'parentId',
  selectors: 'selectors',
  x509SvidTtlSeconds: 'x509SvidTtl',
  jwtSvidTtlSeconds: 'jwtSvidTtl',
  federatesWith: 'federatesWith',
  dnsNames: 'dnsNames',
  admin: 'admin',
  downstream: 'downstream',
  storeSvid: 'storeSvid',
  hint: 'hint',
  expiresAtSeconds: 'expiresAt',
  additionalAttributes: 'additionalAttributes'
} as const satisfies Record<string, keyof EntryMask>

function masked (message: EntryInit, mask: EntryMask): EntryInit {
  return Object.fromEntries(Object.entries(message).filter(([name]) => name === 'id' || mask[name as keyof EntryMask]))
}

function attributesOf ({ additionalAttributes: given }: EntryMessage): Entry['additionalAttributes'] {
  return {
    disableX509SvidPrefetch: given?.disableX509SvidPrefetch ?? false,
    jwtSvidIncludeJti: given?.jwtSvidIncludeJti ?? false
  }
}

/** As SPIRE sends them: not at all where there are none. */
function anyOf (attributes: Entry['additionalAttributes']): Entry['additionalAttributes'] | undefined {
  return attributes.disableX509SvidPrefetch || attributes.jwtSvidIncludeJti ? attributes : undefined
}
