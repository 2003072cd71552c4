import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

/** The suites of SPIRE 1.15 (spire-surface §9). */
const suites = `admin-endpoints agent-cli broker-api-k8s datastore-mysql datastore-mysql-replication datastore-postgres
  datastore-postgres-replication debug-endpoints delegatedidentity downstream-endpoints entries envoy-sds-v3 envoy-sds-v3-spiffe-auth
  events-based-entries evict-agent fetch-jwt-svids fetch-wit-svids fetch-x509-svids force-rotation-jwt-authority
  force-rotation-self-signed force-rotation-upstream-authority ghostunnel-federation join-token k8s k8s-sigstore key-manager-vault
  nested-rotation node-attestation node-re-attestation oidc-discovery-provider rotation self-test slurm-x509 spire-server-cli svidstore
  sync-authorized-entries upgrade upstream-authority-cert-manager upstream-authority-ejbca upstream-authority-vault workloadattestor
  windows-service windows-workload-attestor`.split(/\s+/)

const page = join(import.meta.dirname, '../../docs/spire-scenarios.md')

t.test('docs/spire-scenarios.md has a row for each suite of SPIRE\'s, and each row says what proves it or what is missing', async t => {
  const rows = readFileSync(page, 'utf8').split('\n').filter(line => /^\| [a-z]/.test(line) && !line.startsWith('| suite'))
    .map(line => line.split('|').slice(1, -1).map(cell => cell.trim()))
  t.same(rows.map(([suite = '']) => suite).toSorted(), suites.toSorted())
  t.equal(suites.length, 43)
  for (const [suite = '', verdict = '', proofs = '', missing = ''] of rows) {
    const files = [...proofs.matchAll(/\]\(([^)]+)\)/g)].map(([, file = '']) => file)
    t.match(verdict, /^(pass|partly|not yet)$/, suite)
    t.equal(files.length > 0, verdict !== 'not yet', `${suite}: tests`)
    if (verdict === 'partly') t.not(missing, '', `${suite}: what is missing`)
    for (const file of files) {
      t.ok(/^\.\.\/test\/.*\.(test|soak)\.ts$/.test(file) && existsSync(join(page, '..', file)), `${suite}: ${file}`)
    }
  }
})
