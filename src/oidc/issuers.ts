import type { ProviderConfig } from './provider.ts'

/** Which issuers the document may name, by the host that was asked: those of all domains, with and without the listener's own port. */
export function issuersOf ({ domains, jwtIssuer, pathPrefix, allowInsecureScheme, listen }: ProviderConfig): readonly string[] {
  if (jwtIssuer !== undefined) return [jwtIssuer]
  // A proxy at a Unix socket says which scheme it offers.
  const schemes = !allowInsecureScheme ? ['https'] : listen.kind === 'unix' ? ['https', 'http'] : ['http']
  return schemes.flatMap(scheme => domains.flatMap(({ name, port }) => {
    const own = listen.kind === 'unix' ? undefined : listen.port
    const ports = port === undefined ? [undefined, own] : [port]
    const hosts = ports.map(each => each === undefined || each === schemePorts[scheme] ? name : `${name}:${each}`)
    return [...new Set(hosts)].map(host => `${scheme}://${host}${pathPrefix}`)
  }))
}

const schemePorts: Readonly<Record<string, number>> = { https: 443, http: 80 }
