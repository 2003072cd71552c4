import type { CommandLine } from './command-lines.ts'

const local = (...lines: string[]): CommandLine[] => lines.map(words => ({ words, local: true }))

/** All of spire-surface §5.3 that ends by itself. */
export const agentLines: readonly CommandLine[] = ([
  ...local('', 'nothing', 'api', 'api nothing', 'debug', 'api fetch x509 -nothing', 'api fetch x509 -output yaml', 'api fetch jwt',
    'api validate jwt', 'api fetch x509 -socketPath /nowhere/agent.sock -timeout 1s', 'healthcheck -socketPath /nowhere/agent.sock',
    'debug getinfo -socketPath /nowhere/admin.sock', 'logger set', 'validate -config $FOLDER/none.conf', 'api fetch x509 -instance one'),
  'healthcheck', 'healthcheck -verbose', 'healthcheck -shallow',
  'api fetch x509', 'api fetch x509 -output json', 'api fetch', 'api fetch x509 -silent', 'api fetch x509 -write $FOLDER',
  'api fetch x509 -timeout nothing',
  { words: 'api fetch jwt -audience a', remember: ['token', /([\w-]+\.[\w-]+\.[\w-]+)/] }, 'api fetch jwt -audience a,b -output json',
  'api fetch jwt -audience a -spiffeID spiffe://example.org/parity', 'api fetch jwt -audience a -spiffeID spiffe://example.org/other',
  'api fetch jwt -audience a -spiffeID nothing',
  'api validate jwt -audience a -svid $token', 'api validate jwt -audience a -svid $token -output json',
  'api validate jwt -audience other -svid $token', 'api validate jwt -audience a -svid nothing', 'api validate jwt -audience a',
  'logger get', 'logger get -output json', 'logger set -level warn', 'logger set -level nothing', 'logger reset -output json',
  'debug getinfo', 'debug getinfo -output json'
] as ReadonlyArray<string | CommandLine>).map(line => typeof line === 'string' ? { words: line } : line)
