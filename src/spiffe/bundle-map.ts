import type { Bundle } from './bundle.ts'
import { bundleObject, readBundle, type BundleFormat, type OnSkipped } from './bundle-document.ts'
import { SpiffeError } from './errors.ts'
import { formatJson } from './format-json.ts'
import { isJsonObject, parseStrictJsonObject, type JsonObject } from './strict-json.ts'
import { parseTrustDomain, type TrustDomain } from './trust-domain.ts'

/** The bundles of several trust domains, each under its own name and never merged (TDB-02). */
export type BundleMap = ReadonlyMap<TrustDomain, Bundle>

/**
 * Reads a bundle map (Trust Domain and Bundle §5.1): the full state, all of it or nothing (TDB-20). Refresh hints of
 * single bundles are dropped: nobody may pace the map by them (TDB-19).
 * @throws {SpiffeError} `bundle_malformed`, also for a trust domain that is named twice (TDB-18)
 */
export function parseBundleMap (text: string | Uint8Array, onSkipped: OnSkipped = () => {}): BundleMap {
  const domains = readTrustDomains(text)
  return new Map(Object.entries(domains).map(([name, document]) => {
    try {
      const trustDomain = parseTrustDomain(name)
      if (!isJsonObject(document)) throw new SpiffeError('bundle_malformed', 'not an object', { requirement: 'TDB-16' })
      const bundle = readBundle(document, trustDomain, note => onSkipped(`${name}: ${note}`))
      return [trustDomain, { ...bundle, refreshHintSeconds: undefined }] as const
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      const { message, requirement } = error
      throw new SpiffeError('bundle_malformed', `bundle of ${JSON.stringify(name)}: ${message}`, { cause: error, requirement })
    }
  }))
}

/** Writes a bundle map, sorted by name, without refresh hints (TDB-19). A map key's name counts, once (TDB-17). */
export function formatBundleMap (bundles: BundleMap, { indent }: BundleFormat = {}): string {
  // Entries of integer-like names come first whatever we do; `__proto__` needs an object without a prototype (TS-03).
  const domains = Object.create(null) as Record<string, unknown>
  for (const name of [...bundles.keys()].toSorted()) domains[name] = bundleObject({ ...bundles.get(name)!, refreshHintSeconds: undefined })
  return formatJson({ trust_domains: domains }, indent)
}

function readTrustDomains (text: string | Uint8Array): JsonObject {
  let map: JsonObject
  try {
    map = parseStrictJsonObject(text)
  } catch (error) {
    const { message } = error as SpiffeError
    const requirement = message.endsWith('repeated name') ? 'TDB-18' : 'TDB-16'
    throw new SpiffeError('bundle_malformed', message, { cause: error, requirement })
  }
  if (!isJsonObject(map.trust_domains)) {
    throw new SpiffeError('bundle_malformed', 'trust_domains is missing or no object', { requirement: 'TDB-16' })
  }
  return map.trust_domains
}
