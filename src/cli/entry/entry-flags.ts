import type { EntryInit } from '../../wire/generated/types.ts'
import { encodeSpiffeId } from '../../wire/spiffe-id-codec.ts'
import { spiffeIdOf, trustDomainOf, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import {
  instantFlag, pathFlag, secondsFlag, selectorListFlag, spiffeIdFlag, switchFlag, textFlag, textListFlag, trustDomainListFlag,
  type FlagValues
} from '../flag.ts'
import { waitFlags } from '../convergence/wait.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'

/** What an entry is made of; also those of `entry update`. */
export const entryFlags = {
  spiffeID: spiffeIdFlag('the SPIFFE ID that the workload gets'),
  parentID: spiffeIdFlag('the agent (or entry) that serves the workload'),
  selector: selectorListFlag('a fact that the workload must show, e.g. unix:uid:1000'),
  x509SVIDTTL: secondsFlag('life of its X509-SVIDs', 'the server\'s'),
  jwtSVIDTTL: secondsFlag('life of its JWT-SVIDs', 'the server\'s'),
  dns: textListFlag('a DNS name in its X509-SVIDs', 'NAME'),
  federatesWith: trustDomainListFlag('a trust domain whose bundle it gets'),
  admin: switchFlag('let it call the server\'s admin API'),
  downstream: switchFlag('let it ask for an intermediate CA: a nested server'),
  storeSVID: switchFlag('hand its SVID to an SVID store instead of the workload'),
  hint: textFlag('tells the workload which of its SVIDs this is'),
  entryID: textFlag('ID of the entry itself', { placeholder: 'ID', defaultText: 'made by the server' }),
  entryExpiry: instantFlag('when the entry is removed'),
  disableX509SVIDPrefetch: switchFlag('do not keep an X509-SVID ready for it', { orUnset: true }),
  jwtSVIDIncludeJTI: switchFlag('give each JWT-SVID a jti', { orUnset: true }),
  data: pathFlag('read entries from JSON instead; - is standard input', { placeholder: 'FILE|-' }),
  ...waitFlags,
  ...replicaFlags,
  output: outputFlag
}

/** Flags that tell how, not what. */
const manner = ['data', 'output', 'socketPath', 'instance', 'wait', 'wait-timeout'] as const

export type EntryFlagValues = Omit<FlagValues<typeof entryFlags>, Exclude<typeof manner[number], 'data'>>

/** @param node makes a node alias: the parent is the server itself. @throws {SpiffeError} `usage_invalid`, in SPIRE's words */
export function entryOfFlags (flags: EntryFlagValues, node: boolean): EntryInit {
  if (flags.selector.length === 0) throw usage('at least one selector is required')
  if (flags.parentID === undefined && !node) throw usage('a parent ID is required if the node flag is not set')
  if (flags.parentID !== undefined && node) throw usage('-parentID and -node exclude each other')
  if (flags.spiffeID === undefined) throw usage('a SPIFFE ID is required')
  if (node && flags.federatesWith.length > 0) throw usage('node entries can not federate')
  const parent = flags.parentID ?? serverIdOf(flags.spiffeID)
  return {
    id: flags.entryID,
    spiffeId: encodeSpiffeId(flags.spiffeID),
    parentId: encodeSpiffeId(parent),
    selectors: flags.selector,
    x509SvidTtl: flags.x509SVIDTTL,
    jwtSvidTtl: flags.jwtSVIDTTL,
    dnsNames: flags.dns,
    federatesWith: flags.federatesWith,
    admin: flags.admin,
    downstream: flags.downstream,
    storeSvid: flags.storeSVID,
    hint: flags.hint,
    expiresAt: flags.entryExpiry === undefined ? undefined : Math.floor(flags.entryExpiry.getTime() / 1_000),
    additionalAttributes: attributesOfFlags(flags)
  }
}

/** With `-data`, flags that describe one entry have no place. @throws {SpiffeError} `usage_invalid` */
export function refuseBesideData (flags: EntryFlagValues): void {
  const initial = (name: keyof EntryFlagValues) => {
    const value = flags[name]
    return value === undefined || value === false || (Array.isArray(value) && value.length === 0)
  }
  const given = (Object.keys(entryFlags) as (keyof EntryFlagValues)[])
    .filter(name => !(manner as readonly string[]).includes(name))
    .find(name => !initial(name))
  if (given !== undefined) throw usage(`-${given} and -data exclude each other`)
}

function attributesOfFlags ({ disableX509SVIDPrefetch, jwtSVIDIncludeJTI }: EntryFlagValues): EntryInit['additionalAttributes'] {
  if (disableX509SVIDPrefetch === undefined && jwtSVIDIncludeJTI === undefined) return undefined
  return { disableX509SvidPrefetch: disableX509SVIDPrefetch, jwtSvidIncludeJti: jwtSVIDIncludeJTI }
}

function serverIdOf (id: SpiffeId): SpiffeId {
  return spiffeIdOf(trustDomainOf(id), '/spire/server')
}
