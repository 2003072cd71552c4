import type { OwnBundle } from '../../ca/own-bundle.ts'
import { appendAuthorities, withContent } from '../../spiffe/bundle-change.ts'
import type { Bundle, JwtAuthority } from '../../spiffe/bundle.ts'
import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import { parseTrustDomainOrId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { AdminAccess } from '../../authz/admin/access.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { BundleDeleteMode, BundleStore } from '../../storage/bundle-store.ts'
import { decodeBundle, decodeJwtAuthority, encodeBundle, encodeJwtAuthority } from '../../wire/bundle-codec.ts'
import type { BatchDeleteFederatedBundleRequest, BundleHandlers } from '../../wire/generated/server-bundle.ts'
import type { Bundle as BundleMessage, BundleMask, JWTKey, StatusInit } from '../../wire/generated/types.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Authorities } from '../authorities.ts'
import type { Authorizer } from '../authorize.ts'
import type { Registrations } from '../registrations.ts'
import { checkBundleContent, splitX509Authorities } from './check-bundle.ts'
import type { Limits } from './limits.ts'
import { saidFirst } from './said-first.ts'
import { itemOk, itemRefused } from './item-status.ts'

export interface BundleDeps {
  readonly trustDomain: TrustDomain
  readonly ownBundle: OwnBundle
  readonly authorities: Authorities
  readonly limits: Limits
  readonly clock: Clock
  readonly bundles: BundleStore
  readonly registrations: Registrations
  readonly authorizer: Authorizer
}

const deleteModes: readonly BundleDeleteMode[] = ['restrict', 'delete', 'dissociate']

/** `spire.api.server.bundle.v1.Bundle` (spire-surface §1.4). Nested servers publish JWT keys; WIT keys there are none. */
export function bundleHandlers (deps: BundleDeps): BundleHandlers<CallContext> {
  const { authorities, authorizer, clock, limits, trustDomain, ownBundle, bundles, registrations } = deps
  const foreign = (name: string) => foreignDomain(name, trustDomain)
  const readable = (context: CallContext) => authorizer.accessOf(context).filter('bundles.read', objectOf)
  const readWritable = (message: BundleMessage, verb: Verb, context: CallContext) => {
    const bundle = readForeign(message, verb, trustDomain)
    authorizer.accessOf(context).require('bundles.write', objectOf(bundle.trustDomain))
    return bundle
  }
  return {
    async countBundles (_, context) {
      const keep = readable(context)
      // The own one is everybody's to read.
      return { count: await bundles.count(keep && (domain => domain === trustDomain || keep(domain))) }
    },

    async getBundle ({ outputMask }) {
      return encodeBundle(ownBundle.value, outputMask)
    },

    async appendBundle ({ x509Authorities, jwtAuthorities, outputMask }) {
      if (x509Authorities.length + jwtAuthorities.length === 0) throw new SpiffeError('argument_invalid', 'no authorities to append')
      const added = checkBundleContent({
        trustDomain,
        x509Authorities: saidFirst('failed to convert X.509 authority: ', () =>
          splitX509Authorities(x509Authorities.map(({ asn1, tainted }) => ({ certificate: asn1, tainted })))),
        jwtAuthorities: saidFirst('failed to convert JWT authority: ', () => jwtAuthorities.map(readJwtAuthority))
      })
      return encodeBundle(await ownBundle.update(current => appendAuthorities(current, added)), outputMask)
    },

    async publishJWTAuthority ({ jwtAuthority }, context) {
      await limits.publish(context, 1)
      if (jwtAuthority === undefined) throw new SpiffeError('argument_invalid', 'missing JWT authority')
      const key = saidFirst('invalid JWT authority: ', () => readJwtAuthority(jwtAuthority))
      if (key.expiresAt !== undefined && key.expiresAt <= clock.now()) {
        throw new SpiffeError('argument_invalid', `JWT authority ${JSON.stringify(key.keyId)} has expired`)
      }
      const keys = await authorities.change(writer => authorities.ca.publishDownstreamJwtKey(key, writer))
      context.log.info({ kid: key.keyId }, 'a downstream server has published a JWT key')
      return { jwtAuthorities: keys.map(encodeJwtAuthority) }
    },

    async publishWITAuthority () { throw new SpiffeError('wit_disabled', 'WIT-SVID functionality is not yet implemented') },

    async listFederatedBundles ({ outputMask, pageSize, pageToken }, context) {
      const keep = readable(context)
      const page = await bundles.list({ size: pageSize, token: pageToken }, keep && (domain => domain !== trustDomain && keep(domain)))
      const shown = page.bundles.filter(bundle => bundle.trustDomain !== trustDomain)
      return { bundles: shown.map(bundle => encodeBundle(bundle, outputMask)), nextPageToken: page.nextPageToken }
    },

    async getFederatedBundle ({ trustDomain: name, outputMask }, context) {
      const bundle = await bundles.get(foreign(name))
      const hidden = bundle === undefined || readable(context)?.(bundle.trustDomain) === false
      if (hidden) throw new SpiffeError('bundle_not_found', 'bundle not found')
      return encodeBundle(bundle, outputMask)
    },

    async batchCreateFederatedBundle ({ bundle: messages, outputMask }, context) {
      const create = (message: BundleMessage) => registrations.createBundle(readWritable(message, 'creating', context))
      return { results: await eachBundle(messages, outputMask, create) }
    },

    async batchUpdateFederatedBundle ({ bundle: messages, inputMask, outputMask }, context) {
      return {
        results: await eachBundle(messages, outputMask, message => {
          const given = readWritable(message, 'updating', context)
          return registrations.updateBundle(given.trustDomain, current => {
            if (current === undefined) throw new SpiffeError('bundle_not_found', 'bundle not found')
            return merged(current, given, inputMask)
          })
        })
      }
    },

    async batchSetFederatedBundle ({ bundle: messages, outputMask }, context) {
      const set = (message: BundleMessage) => registrations.setBundle(readWritable(message, 'setting', context))
      return { results: await eachBundle(messages, outputMask, set) }
    },

    async batchDeleteFederatedBundle (request, context) {
      return { results: await deleteBundles(request, authorizer.accessOf(context), deps) }
    }
  }
}

function objectOf (trustDomain: TrustDomain, detaches = false) { return { kind: 'bundle' as const, trustDomain, detaches } }

/** @throws {SpiffeError} `argument_invalid` for the own domain, `trust_domain_malformed` */
function foreignDomain (name: string, own: TrustDomain): TrustDomain {
  const parsed = parseDomain(name)
  if (parsed === own) throw new SpiffeError(
    'argument_invalid', 'getting a federated bundle for the server\'s own trust domain is not allowed'
  )
  return parsed
}

type Verb = 'creating' | 'updating' | 'setting'

function readForeign (message: BundleMessage, verb: Verb, own: TrustDomain): Bundle {
  if (parseDomain(message.trustDomain) === own) {
    throw new SpiffeError('argument_invalid', `${verb} a federated bundle for the server's own trust domain is not allowed`)
  }
  return saidFirst('failed to convert bundle: ', () => {
    const bundle = decodeBundle(message)
    return checkBundleContent({ ...bundle, x509Authorities: splitX509Authorities(bundle.x509Authorities) })
  })
}

function parseDomain (name: string): TrustDomain {
  return saidFirst('trust domain argument is not valid: ', () => parseTrustDomainOrId(name))
}

/** @throws {SpiffeError} `bundle_malformed` */
function readJwtAuthority (message: JWTKey): JwtAuthority {
  const authority = decodeJwtAuthority(message)
  checkBundleContent({ x509Authorities: [], jwtAuthorities: [authority] })
  return authority
}

/** Fields the mask names come from `given`; the sequence number is the publisher's, so it may be set as well. */
function merged (current: Bundle, given: Bundle, mask: BundleMask | undefined): Bundle {
  if (mask === undefined) return { ...given }
  const content = withContent(current, {
    ...(mask.x509Authorities ? { x509Authorities: given.x509Authorities } : {}),
    ...(mask.jwtAuthorities ? { jwtAuthorities: given.jwtAuthorities } : {}),
    ...(mask.refreshHint ? { refreshHintSeconds: given.refreshHintSeconds } : {})
  })
  return { ...content, sequenceNumber: mask.sequenceNumber ? given.sequenceNumber : current.sequenceNumber }
}

async function eachBundle (
  messages: readonly BundleMessage[], mask: BundleMask | undefined, change: (message: BundleMessage) => Promise<Bundle>
) {
  const results = []
  for (const message of messages) {
    try {
      results.push({ status: itemOk, bundle: encodeBundle(await change(message), mask) })
    } catch (error) {
      results.push({ status: itemRefused(error) })
    }
  }
  return results
}

async function deleteBundles (
  { trustDomains, mode }: BatchDeleteFederatedBundleRequest, access: AdminAccess, { trustDomain, registrations }: BundleDeps
) {
  const deleteMode = deleteModes[mode]
  if (deleteMode === undefined) throw new SpiffeError('argument_invalid', `failed to parse deletion mode: unhandled delete mode "${mode}"`)
  const results: Array<{ status: StatusInit, trustDomain: string }> = []
  for (const name of trustDomains) {
    try {
      const domain = parseDomain(name)
      if (domain === trustDomain) throw new SpiffeError(
        'argument_invalid', 'removing the bundle for the server trust domain is not allowed'
      )
      access.require('bundles.write', objectOf(domain, deleteMode !== 'restrict'))
      await registrations.deleteBundle(domain, deleteMode)
      results.push({ trustDomain: name, status: itemOk })
    } catch (error) {
      // As SPIRE has it: what its datastore refuses says so (spire-surface §1.1).
      const prefix = codeOf(error) === 'bundle_in_use' ? 'failed to delete federated bundle: datastore-sql: ' : ''
      results.push({ trustDomain: name, status: itemRefused(error, prefix) })
    }
  }
  return results
}
