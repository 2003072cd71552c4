import { bash, curl, openssl, vault } from './frame/needs.ts'
import type { Lab } from './frame/lab.ts'
import { startOneNode } from './frame/one-node.ts'
import type { Stage } from './frame/stage.ts'

/** The root token is in no command: whoever reads along sees how it is used, and the last step takes it away. */
const adminScript = `#!/bin/sh
VAULT_TOKEN=$(sed -n 's/^Initial Root Token: //p' init.txt) exec ./vault "$@"
`

/** Vault keeps all in memory here; the certificates of callers are asked for, and judged by the method \`cert\`. */
const vaultConfig = (port: number) => `storage "inmem" {}
listener "tcp" {
  address       = "127.0.0.1:${port}"
  tls_cert_file = "tls.pem"
  tls_key_file  = "tls.key"
}
api_addr      = "https://localhost:${port}"
disable_mlock = true
`

export const lab: Lab = {
  title: 'Vault login: a workload reads a secret by its JWT-SVID, and by its X509-SVID, without a token of Vault\'s anywhere',
  needs: [bash, curl, openssl, vault],
  proof: 'soak',
  async play (stage) {
    await openIssuer(stage)
    await openVault(stage)
    await trust(stage)
    await logInByJwt(stage)
    await logInByX509(stage)
    await refuseOthers(stage)
    await replaceJwtKey(stage)
    await replaceRoot(stage)
  }
}

/** Reads the secret with the token of Vault's that a login left in a file. */
const read = (file: string) => `VAULT_TOKEN=$(cat ${file}) ./vault kv get -field=password secret/web`
const logIn = {
  jwt: (token: string) => `./vault write -field=token auth/jwt/login role=web jwt=@${token}`,
  x509: (cert: string, key: string) => `./vault write -client-cert=${cert} -client-key=${key} -field=token auth/cert/login name=web`
}
const fetchJwt = (audience: string) => `assay api fetch jwt -audience ${audience} | sed -n '2s/^\\t//p'`

async function openIssuer (stage: Stage): Promise<void> {
  stage.step('An issuer with a name')
  await stage.port('OIDC_PORT')
  await stage.write('server.yaml', 'server:\n  jwt_issuer: https://localhost:$OIDC_PORT\n')
  await startOneNode(stage, { serverFlags: '-config server.yaml -expandEnv' })
  await stage.run('assay entry create -spiffeID spiffe://example.org/web -parentID spiffe://example.org/laptop' +
    ' -selector unix:uid:$(id -u) -dns web -wait')

  stage.step('Its keys, where OpenID Connect looks for them')
  await stage.run('openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=a CA of the web"' +
    ' -keyout web-ca.key -out web-ca.pem 2>/dev/null')
  await stage.run('openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost' +
    ' -keyout tls.key -out tls.csr 2>/dev/null')
  await stage.run('openssl x509 -req -in tls.csr -CA web-ca.pem -CAkey web-ca.key -CAcreateserial -days 2' +
    ' -extfile <(echo subjectAltName=DNS:localhost) -out tls.pem 2>/dev/null')
  await stage.startUntil('published keys changed', 'oidc', 'assay oidc serve -domain localhost -certFile tls.pem -keyFile tls.key' +
    ' -addr 127.0.0.1:$OIDC_PORT -serverAddress unix://$PWD/server.sock')
  await stage.run('curl -s --cacert web-ca.pem https://localhost:$OIDC_PORT/.well-known/openid-configuration | grep -E "issuer|jwks_uri"')
  const keys = await stage.run('curl -s --cacert web-ca.pem https://localhost:$OIDC_PORT/keys | grep -E \'"(kty|crv|alg|d)":\'')
  stage.check('one public key, and no secret of it', keys.match(/"kty": "EC"/g)?.length === 1 && !/"d":/.test(keys), keys)
}

async function openVault (stage: Stage): Promise<void> {
  stage.step('A Vault, and a secret in it')
  await stage.run('ln -s "$VAULT_BIN" vault')
  const port = await stage.port('VAULT_PORT')
  stage.set('VAULT_ADDR', `https://localhost:${port}`)
  stage.set('VAULT_CACERT', 'web-ca.pem')
  await stage.write('vault.hcl', vaultConfig(port))
  stage.start('vault', './vault server -config vault.hcl')
  await stage.until('it answers', 'curl -s --cacert web-ca.pem $VAULT_ADDR/v1/sys/health | grep -o \'"initialized":[a-z]*\'', /false/)
  await stage.run('(umask 077; ./vault operator init -key-shares=1 -key-threshold=1 > init.txt)')
  await stage.run('./vault operator unseal $(sed -n \'s/^Unseal Key 1: //p\' init.txt) > /dev/null')
  await stage.write('admin', adminScript)
  await stage.run('chmod 700 admin')
  await stage.run('./admin secrets enable -path=secret -version=2 kv')
  await stage.run('./admin kv put secret/web password=correct-horse > /dev/null')
  await stage.write('web.hcl', 'path "secret/data/web" { capabilities = ["read"] }\n')
  await stage.run('./admin policy write web web.hcl')
}

async function trust (stage: Stage): Promise<void> {
  stage.step('Vault trusts the issuer')
  await stage.run('./admin auth enable jwt')
  await stage.run('./admin write auth/jwt/config oidc_discovery_url=https://localhost:$OIDC_PORT oidc_discovery_ca_pem=@web-ca.pem' +
    ' bound_issuer=https://localhost:$OIDC_PORT')
  await stage.run('./admin write auth/jwt/role/web role_type=jwt user_claim=sub bound_audiences=vault' +
    ' bound_subject=spiffe://example.org/web token_policies=web token_ttl=10m')

  stage.step('Vault trusts the bundle')
  await stage.run('./admin auth enable cert')
  await stage.run('./admin write auth/cert/certs/web certificate=@bundle.pem allowed_uri_sans=spiffe://example.org/web' +
    ' token_policies=web token_ttl=10m')
  await stage.write('trust.hcl', 'path "auth/cert/certs/web" {\n  capabilities       = ["update"]\n' +
    '  allowed_parameters = { "certificate" = [] }\n}\n')
  await stage.run('./admin policy write trust trust.hcl')
  await stage.run('./admin write auth/jwt/role/trust role_type=jwt user_claim=sub bound_audiences=vault' +
    ' bound_subject=spiffe://example.org/vault-trust token_policies=trust token_ttl=1m')

  stage.step('The last token goes')
  await stage.run('./admin token revoke -self')
  const denied = await stage.run('./admin kv get secret/web 2>&1 | grep denied', { status: 2 })
  stage.checkMatch('the root token is good for nothing any more', denied, /permission denied|invalid token/)
}

async function logInByJwt (stage: Stage): Promise<void> {
  stage.step('Login by JWT-SVID')
  await stage.run(`${fetchJwt('vault')} > jwt`)
  const claims = await stage.run('cut -d. -f2 jwt | tr _- /+ | { base64 -d 2>/dev/null || true; }' +
    ' | grep -o \'"\\(iss\\|sub\\|aud\\)":[^,]*\'')
  stage.checkMatch('the token names its issuer', claims, /"iss":"https:\/\/localhost:/)
  await stage.run(`${logIn.jwt('jwt')} > by-jwt`)
  const secret = await stage.run(read('by-jwt'))
  stage.checkMatch('the workload reads its secret', secret, /^correct-horse$/)
  const facts = await stage.run('VAULT_TOKEN=$(cat by-jwt) ./vault token lookup | grep -E "^(display_name|policies)"')
  stage.checkMatch('Vault knows who it is, and that it may do no more', facts, /spiffe:\/\/example\.org\/web\npolicies +\[default web\]/)
}

async function logInByX509 (stage: Stage): Promise<void> {
  stage.step('Login by X509-SVID')
  await stage.run('assay api fetch x509 -write . -silent')
  await stage.run(`${logIn.x509('svid.0.pem', 'svid.0.key')} > by-x509`)
  stage.checkMatch('the workload reads its secret', await stage.run(read('by-x509')), /^correct-horse$/)
  const other = await stage.run('VAULT_TOKEN=$(cat by-x509) ./vault kv get secret/other 2>&1 | grep denied', { status: 2 })
  stage.checkMatch('and no other', other, /permission denied/)
}

async function refuseOthers (stage: Stage): Promise<void> {
  stage.step('Others are refused: JWT-SVIDs')
  await stage.run('assay jwt mint -spiffeID spiffe://example.org/api -audience vault > other.jwt')
  const subject = await stage.run(`${logIn.jwt('other.jwt')} 2>&1 | grep '^\\*'`, { status: 2 })
  stage.checkMatch('another workload of the trust domain', subject, /subject|sub/)
  await stage.run(`${fetchJwt('database')} > database.jwt`)
  const audience = await stage.run(`${logIn.jwt('database.jwt')} 2>&1 | grep '^\\*'`, { status: 2 })
  stage.checkMatch('the right workload with a token for somebody else', audience, /audience|aud/)

  stage.step('Others are refused: X509-SVIDs')
  await stage.run('assay x509 mint -spiffeID spiffe://example.org/api -write other > /dev/null')
  const name = await stage.run(`${logIn.x509('other/svid.pem', 'other/key.pem')} 2>&1 | grep '^\\*'`, { status: 2 })
  stage.checkMatch('another workload of the trust domain', name, /invalid certificate|constraint/)
  await stage.run('openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=forged' +
    ' -addext subjectAltName=URI:spiffe://example.org/web -keyout forged.key -out forged.pem 2>/dev/null')
  const forged = await stage.run(`${logIn.x509('forged.pem', 'forged.key')} 2>&1 | grep '^\\*'`, { status: 2 })
  stage.checkMatch('a certificate with the right name that nobody vouches for', forged, /invalid certificate/)
}

async function replaceJwtKey (stage: Stage): Promise<void> {
  stage.step('The issuer\'s key is replaced')
  await stage.write('kids', `#!/bin/sh
curl -s --cacert web-ca.pem https://localhost:$OIDC_PORT/keys | grep -o '"kid": *"[^"]*"'
`)
  await stage.run('chmod 700 kids; ./kids > old-keys')
  await stage.run('assay rotate -compromised jwt | cut -d " " -f 1')
  await stage.until('the new key is served alone',
    './kids > new-keys; grep -cvFf old-keys new-keys; grep -cFf old-keys new-keys', /^1\n0$/m)
  await stage.run(`${fetchJwt('vault')} > new.jwt`)
  await stage.run(`${logIn.jwt('new.jwt')} > by-jwt`)
  stage.checkMatch('Vault was told nothing, and takes the new key', await stage.run(read('by-jwt')), /^correct-horse$/)
  const old = await stage.run(`${logIn.jwt('jwt')} 2>&1 | grep '^\\*'`, { status: 2 })
  stage.checkMatch('what the old key signed is refused', old, /signature|key/)
}

async function replaceRoot (stage: Stage): Promise<void> {
  stage.step('The root is replaced: Vault learns the next one')
  const slots = async () => await stage.look('assay localauthority x509 show --output json')
  await stage.run('assay localauthority x509 prepare -wait > /dev/null')
  await stage.write('push-bundle', `#!/bin/sh
# A job on the server's machine: its own JWT-SVID lets it replace the roots, and do nothing else.
set -e
assay bundle show > bundle.pem
assay jwt mint -spiffeID spiffe://example.org/vault-trust -audience vault > trust.jwt
VAULT_TOKEN=$(./vault write -field=token auth/jwt/login role=trust jwt=@trust.jwt) \\
  ./vault write auth/cert/certs/web certificate=@bundle.pem
`)
  await stage.run('chmod 700 push-bundle; ./push-bundle')
  stage.checkMatch('both roots are there', await stage.run('grep -c BEGIN bundle.pem'), /^2$/m)

  stage.step('The root is replaced: the next one signs')
  const ids = JSON.parse(await slots()) as { active: { authority_id: string }, prepared: { authority_id: string } }
  stage.set('OLD', ids.active.authority_id)
  stage.set('NEW', ids.prepared.authority_id)
  await stage.run('assay localauthority x509 activate -authorityID $NEW -wait > /dev/null')
  await stage.run('assay localauthority x509 taint -authorityID $OLD -wait > /dev/null')
  await stage.run('mkdir new; assay api fetch x509 -write new -silent')
  await stage.run(`${logIn.x509('new/svid.0.pem', 'new/svid.0.key')} > by-x509`)
  stage.checkMatch('the workload reads its secret', await stage.run(read('by-x509')), /^correct-horse$/)

  stage.step('The root is replaced: the old one goes')
  await stage.run('assay localauthority x509 revoke -authorityID $OLD > /dev/null; ./push-bundle')
  const old = await stage.run(`${logIn.x509('svid.0.pem', 'svid.0.key')} 2>&1 | grep '^\\*'`, { status: 2 })
  stage.checkMatch('what it signed is refused', old, /invalid certificate/)
  await stage.run(`${logIn.x509('new/svid.0.pem', 'new/svid.0.key')} > by-x509`)
  stage.checkMatch('and the new SVID is not', await stage.run(read('by-x509')), /^correct-horse$/)
  const more = await stage.run('VAULT_TOKEN=$(./vault write -field=token auth/jwt/login role=trust jwt=@trust.jwt)' +
    ' ./vault write auth/cert/certs/web token_policies=root 2>&1 | grep denied', { status: 2 })
  stage.checkMatch('the job cannot give anybody more rights', more, /permission denied/)
}
