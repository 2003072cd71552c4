import protobuf from 'protobufjs'

/** `.a.b.C` → `a.b.C`. */
export function fullName (object: protobuf.ReflectionObject): string {
  return object.fullName.replace(/^\./, '')
}

/** The package an enum or message lies in: its first parent that is no message. */
export function packageOf (object: protobuf.ReflectionObject): string {
  let parent = object.parent
  while (parent instanceof protobuf.Type) parent = parent.parent
  return parent === null ? '' : fullName(parent)
}

/** Packages whose messages are named as those of another that they use; ours begin so. */
const prefixes: ReadonlyMap<string, string> = new Map([
  ['envoy.extensions.filters.network.rbac.v3', 'Network'],
  ['envoy.extensions.filters.http.rbac.v3', 'Http'],
  ['envoy.extensions.filters.network.ext_authz.v3', 'Network'],
  ['envoy.extensions.filters.http.ext_authz.v3', 'Http'],
  ['envoy.extensions.upstreams.http.v3', 'Upstream']
])

/** `ListEntriesRequest_Filter` for a nested message; those of xds, whose names Envoy has too, begin with `Xds`. */
export function localName (object: protobuf.ReflectionObject): string {
  const pack = packageOf(object)
  const name = fullName(object).slice(pack === '' ? 0 : pack.length + 1).replaceAll('.', '_')
  return `${pack.startsWith('xds.') ? 'Xds' : prefixes.get(pack) ?? ''}${name}`
}

/** proto3's JSON name: `x509_svid_ttl` → `x509SvidTtl`. */
export function camelCase (name: string): string {
  return name.replace(/_+(.?)/g, (_, letter: string) => letter.toUpperCase())
}

/** The way back. */
export function snakeCase (name: string): string {
  return name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
}

export function lowerFirst (name: string): string {
  return name.slice(0, 1).toLowerCase() + name.slice(1)
}
