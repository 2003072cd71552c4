/** A command line of `spire-server`, in a server's state that the lines before have made. */
export interface CommandLine {
  /** Without the program. `$FOLDER` is a folder with the files below; `$name` what an earlier line printed. */
  readonly words: string
  readonly input?: string
  /** Not asked of a server: no `-socketPath`. */
  readonly local?: boolean
  /** What later lines need of what this one prints: the first group, by name. */
  readonly remember?: readonly [name: string, pattern: RegExp]
}

const td = 'spiffe://example.org'
const inBoth = (words: string): string[] => [words, `${words} -output json`]
const twoProfile = '-bundleEndpointProfile https_spiffe -endpointSpiffeID spiffe://two.test/s'
const entry = (id: string, more: string) => `entry create -entryID ${id} -spiffeID ${td}/${id} -parentID ${td}/node ${more}`

/** Files the lines name, beside `partner.pem` and `partner.json`: a foreign bundle in both formats. */
export const files: Readonly<Record<string, string>> = {
  'entries.json': JSON.stringify({ entries: [
    { entry_id: 'data-1', spiffe_id: `${td}/data-1`, parent_id: `${td}/node`, selectors: [{ type: 'unix', value: 'uid:21' }], hint: 'h',
      x509_svid_ttl: 60, jwt_svid_ttl: 30, dns_names: ['a.test'], federates_with: ['spiffe://partner.test'], entryExpiry: 4102444800,
      additional_attributes: { disable_x509_svid_prefetch: true } },
    { entry_id: 'data-2', spiffe_id: `${td}/data-2`, parent_id: `${td}/node`, selectors: [{ type: 'unix', value: 'uid:22' }], admin: true,
      downstream: true, store_svid: true }
  ] }),
  'ids.json': JSON.stringify({ ids: ['data-1', 'none'] }),
  'relationships.json': JSON.stringify({ federationRelationships: [
    { trustDomain: 'three.test', bundleEndpointURL: 'https://three.test', bundleEndpointProfile: 'https_web' },
    { trustDomain: 'four.test', bundleEndpointURL: 'https://four.test', bundleEndpointProfile: 'https_spiffe',
      endpointSPIFFEID: 'spiffe://four.test/server' }
  ] }),
  'server.conf': `server { trust_domain = "example.org" data_dir = "./data" }
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "./data/datastore.sqlite3" } }
  KeyManager "memory" { plugin_data {} }
  NodeAttestor "join_token" { plugin_data {} }
}`
}

/** All of spire-surface §5.2 that a server answers without waiting; one agent, `/spire/agent/join_token/parity`, has attested. */
export const serverLines: readonly CommandLine[] = ([
  // Wrong usage.
  { words: '', local: true }, { words: 'nothing', local: true }, { words: 'entry', local: true },
  { words: 'entry nothing', local: true },
  { words: 'wit mint', local: true }, { words: 'entry count -nothing', local: true },
  { words: 'entry count -output yaml', local: true },
  { words: 'entry count -socketPath /nowhere/api.sock', local: true },
  { words: 'healthcheck -socketPath /nowhere/api.sock', local: true },
  { words: 'entry count -instance one', local: true },
  { words: 'validate -config $FOLDER/server.conf', local: true }, { words: 'validate -config $FOLDER/none.conf', local: true },
  'healthcheck', 'healthcheck -verbose', 'healthcheck -shallow',
  // Bundles.
  ...inBoth('bundle show'), ...inBoth('bundle show -format spiffe'), ...inBoth('bundle count'), ...inBoth('bundle list'),
  { words: 'bundle set -id spiffe://partner.test', input: '$partner.pem' },
  'bundle set -id spiffe://partner.test -path $FOLDER/partner.pem',
  'bundle set -id spiffe://partner.test -path $FOLDER/partner.json -format spiffe -output json',
  'bundle set -id spiffe://two.test -path $FOLDER/partner.pem',
  'bundle set -id spiffe://partner.test -path $FOLDER/none.pem', 'bundle set -path $FOLDER/partner.pem',
  ...inBoth('bundle list'), 'bundle list -format spiffe', ...inBoth('bundle list -id spiffe://partner.test'),
  'bundle list -id spiffe://none.test', ...inBoth('bundle count'),
  // Entries.
  ...inBoth('entry show'), ...inBoth('entry count'),
  entry('one', '-selector unix:uid:1'), entry('one', '-selector unix:uid:1'), `${entry('one', '-selector unix:uid:1')} -output json`,
  entry('two', '-selector unix:uid:2 -selector unix:gid:2 -x509SVIDTTL 60 -jwtSVIDTTL 30 -dns a.test -dns b.test -hint h -output json'),
  entry('three', '-selector unix:uid:3 -federatesWith spiffe://partner.test -admin -downstream -entryExpiry 4102444800'),
  entry('four', '-selector a:b -storeSVID -disableX509SVIDPrefetch'), entry('five', '-selector a:b -jwtSVIDIncludeJTI'),
  `entry create -node -entryID alias -spiffeID ${td}/alias -selector a:b`,
  entry('bad', '-selector nocolon'), `entry create -spiffeID ${td}/x -parentID ${td}/node`,
  'entry create -selector a:b', `entry create -parentID ${td}/node -selector a:b`,
  entry('bad', '-selector a:b -federatesWith spiffe://none.test'),
  `entry create -node -spiffeID ${td}/x -selector a:b -federatesWith spiffe://partner.test`,
  `entry create -spiffeID ${td}/spire/x -parentID ${td}/node -selector a:b`,
  `entry create -spiffeID ${td}/spire/x -parentID ${td}/node -selector a:b -output json`,
  'entry create -data $FOLDER/entries.json', 'entry create -data $FOLDER/entries.json -output json',
  'entry create -data $FOLDER/none.json', { words: 'entry create -data -', input: '{"entries": []}' },
  ...inBoth('entry show -entryID one'), 'entry show -entryID none', ...inBoth('entry show -entryID three'),
  `entry show -spiffeID ${td}/two`, `entry show -spiffeID ${td}/none -output json`,
  `entry show -parentID ${td}/node -selector a:b -matchSelectorsOn exact`, 'entry show -selector unix:uid:2',
  'entry show -selector unix:uid:2 -matchSelectorsOn exact', 'entry show -matchSelectorsOn nothing -selector a:b',
  'entry show -federatesWith spiffe://partner.test -matchFederatesWithOn any', 'entry show -downstream',
  'entry show -hint h -output json', `entry show -parentID ${td}/node -output json`, 'entry show -hint h',
  ...inBoth('entry count'), 'entry count -downstream', 'entry count -hint h -output json',
  `entry update -entryID two -spiffeID ${td}/two -parentID ${td}/node -selector unix:uid:2 -hint other`,
  `entry update -entryID five -spiffeID ${td}/five -parentID ${td}/node -selector a:b -disableX509SVIDPrefetch -output json`,
  `entry update -entryID none -spiffeID ${td}/none -parentID ${td}/node -selector a:b`,
  `entry update -entryID none -spiffeID ${td}/none -parentID ${td}/node -selector a:b -output json`,
  `entry update -spiffeID ${td}/two -parentID ${td}/node -selector unix:uid:2`,
  'entry delete -entryID five', 'entry delete -entryID five', 'entry delete -entryID five -output json',
  'entry delete -file $FOLDER/ids.json', 'entry delete', 'entry delete -entryID four -output json',
  'bundle delete -id spiffe://partner.test', 'bundle delete -id spiffe://none.test',
  'bundle delete -id spiffe://none.test -output json', 'bundle delete -id spiffe://partner.test -mode nothing',
  'bundle delete -id spiffe://partner.test -mode dissociate', 'bundle delete -id spiffe://two.test -output json',
  // Relationships.
  ...inBoth('federation list'),
  'federation create -trustDomain one.test -bundleEndpointURL https://one.test -bundleEndpointProfile https_web',
  'federation create -trustDomain one.test -bundleEndpointURL https://one.test -bundleEndpointProfile https_web',
  `federation create -trustDomain two.test -bundleEndpointURL https://two.test ${twoProfile} -output json`,
  'federation create -trustDomain x.test -bundleEndpointURL http://x.test -bundleEndpointProfile https_web',
  'federation create -bundleEndpointURL https://x.test -bundleEndpointProfile https_web',
  'federation create -trustDomain x.test -bundleEndpointURL https://x.test',
  'federation create -data $FOLDER/relationships.json', ...inBoth('federation list'),
  ...inBoth('federation show -trustDomain two.test'),
  'federation show -trustDomain none.test', 'federation show',
  'federation update -trustDomain two.test -bundleEndpointURL https://other.test -bundleEndpointProfile https_web',
  'federation update -trustDomain none.test -bundleEndpointURL https://other.test -bundleEndpointProfile https_web',
  'federation update -trustDomain none.test -bundleEndpointURL https://other.test -bundleEndpointProfile https_web -output json',
  'federation refresh -id none.test', 'federation refresh',
  'federation delete -id two.test', 'federation delete -id two.test', 'federation delete -id two.test -output json',
  'federation delete',
  // Agents.
  ...inBoth('agent list'), ...inBoth('agent count'), ...inBoth(`agent show -spiffeID ${td}/spire/agent/join_token/parity`),
  `agent show -spiffeID ${td}/spire/agent/join_token/none`, 'agent show', 'agent list -banned true',
  'agent list -canReattest true -output json', 'agent list -attestationType join_token', 'agent list -selector a:b',
  'agent list -expiresBefore yesterday', 'agent count -expiresBefore "2000-01-02 15:04:05 -0700 -07"',
  'agent purge', 'agent purge -dryRun -output json', 'agent ban',
  `agent ban -spiffeID ${td}/spire/agent/join_token/none`, `agent ban -spiffeID ${td}/spire/agent/join_token/parity`,
  ...inBoth('agent list'), `agent evict -spiffeID ${td}/spire/agent/join_token/parity -output json`,
  `agent evict -spiffeID ${td}/spire/agent/join_token/parity`, ...inBoth('agent list'), 'agent evict',
  // Credentials.
  'token generate', `token generate -spiffeID ${td}/node-1 -ttl 60`, 'token generate -output json',
  'token generate -ttl 0', 'token generate -spiffeID nothing',
  `jwt mint -spiffeID ${td}/web -audience a -audience b -ttl 1m`, `jwt mint -spiffeID ${td}/web -audience a -output json`,
  `jwt mint -spiffeID ${td}/web`, 'jwt mint -audience a', `jwt mint -spiffeID ${td}/web -audience a -write $FOLDER/token`,
  ...inBoth(`x509 mint -spiffeID ${td}/web -ttl 1m -dns a.test`), 'x509 mint', `x509 mint -spiffeID ${td}/web -write $FOLDER`,
  'x509 mint -spiffeID nothing', 'x509 mint -spiffeID spiffe://other.org/web',
  // Before authorities are revoked: SPIRE cannot tell its own chain until its next identity, up to five seconds later.
  ...inBoth('debug getinfo'),
  // Authorities.
  ...['x509', 'jwt'].flatMap(kind => [
    ...inBoth(`localauthority ${kind} show`),
    { words: `localauthority ${kind} prepare`, remember: [`${kind}Prepared`, /Authority ID: (\S+)/] as const },
    { words: `localauthority ${kind} prepare -output json`, remember: [`${kind}Prepared`, /"authority_id":"([^"]+)"/] as const },
    ...inBoth(`localauthority ${kind} show`), `localauthority ${kind} activate`, `localauthority ${kind} activate -authorityID x`,
    `localauthority ${kind} taint -authorityID x`, `localauthority ${kind} revoke -authorityID x`,
    `localauthority ${kind} activate -authorityID $${kind}Prepared`,
    { words: `localauthority ${kind} show`, remember: [`${kind}Old`, /Old [^]*?Authority ID: (\S+)/] as const },
    `localauthority ${kind} revoke -authorityID $${kind}Old`,
    `localauthority ${kind} taint -authorityID $${kind}Old`,
    `localauthority ${kind} revoke -authorityID $${kind}Old -output json`
  ]),
  'upstreamauthority taint -subjectKeyID ab', 'upstreamauthority revoke -subjectKeyID ab -output json',
  'upstreamauthority taint',
  // The process.
  ...inBoth('logger get'), 'logger set -level warn', 'logger set -level nothing', 'logger set',
  'logger set -level trace -output json', 'logger reset'
] as ReadonlyArray<string | CommandLine>).map(line => typeof line === 'string' ? { words: line } : line)
