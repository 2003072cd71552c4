PRAGMA foreign_keys=OFF;
PRAGMA application_id=1095979865;
BEGIN TRANSACTION;
CREATE TABLE schema_migrations (number integer primary key, name text not null);
INSERT INTO schema_migrations VALUES(1,'initial');
INSERT INTO schema_migrations VALUES(2,'replicas');
CREATE TABLE bundles (
        row_id integer primary key autoincrement,
        trust_domain text not null unique,
        sequence_number text,
        refresh_hint integer,
        x509_authorities text not null,
        jwt_authorities text not null
      ) strict;
INSERT INTO bundles VALUES(1,'example.org','2',NULL,'[{"certificate":"MIICATCCAaigAwIBAgIRANXIoNtLyrKZL90jCixayWYwCgYIKoZIzj0EAwIwUDELMAkGA1UEBhMCVVMxDzANBgNVBAoTBlNQSUZGRTEwMC4GA1UEBRMnMjg0MTY3Mjg1MDMzODU0NjQzNTA0NTcyNTQ4MzkwMTgzNDIyMzEwMB4XDTI2MTEyNzA3MDY1N1oXDTM2MTEyNDA3MDcwN1owUDELMAkGA1UEBhMCVVMxDzANBgNVBAoTBlNQSUZGRTEwMC4GA1UEBRMnMjg0MTY3Mjg1MDMzODU0NjQzNTA0NTcyNTQ4MzkwMTgzNDIyMzEwMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEwfO3tzzCsEh0iEAfkjtHXZexIsDwrN8gCmuYuh8m0dkX6T+gAFkZ2wpYEZsMCvKitT3kQA4uji7wiaAg7fhNL6NjMGEwDgYDVR0PAQH/BAQDAgEGMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFB4kCSyyK1jFspmCdDlVJ1nHnacpMB8GA1UdEQQYMBaGFHNwaWZmZTovL2V4YW1wbGUub3JnMAoGCCqGSM49BAMCA0cAMEQCIAu30TJJNBqNEKTjO1HIJ0lNqTSXJ2KR7ol0yhsuz2yvAiBAo6W+yzJyouxuT5dVMpKpFIn32ubTWzlGBG2YYYTfiQ==","tainted":false}]','[{"keyId":"hBfLkTHGMyfUMgmTpIu1APIQHKtXi53M","publicKey":"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbA+ONE/T7YM1dbSSCy6vzIV14vN1hylqRlwgySEGh2rs10UViUCQ6jYlttBYIunWSJPTym4xjnFqS/PsZhLXwQ==","expiresAt":2111123227959,"tainted":false}]');
INSERT INTO bundles VALUES(2,'partner.test','0',NULL,'[{"certificate":"MIICATCCAaigAwIBAgIRANXIoNtLyrKZL90jCixayWYwCgYIKoZIzj0EAwIwUDELMAkGA1UEBhMCVVMxDzANBgNVBAoTBlNQSUZGRTEwMC4GA1UEBRMnMjg0MTY3Mjg1MDMzODU0NjQzNTA0NTcyNTQ4MzkwMTgzNDIyMzEwMB4XDTI2MTEyNzA3MDY1N1oXDTM2MTEyNDA3MDcwN1owUDELMAkGA1UEBhMCVVMxDzANBgNVBAoTBlNQSUZGRTEwMC4GA1UEBRMnMjg0MTY3Mjg1MDMzODU0NjQzNTA0NTcyNTQ4MzkwMTgzNDIyMzEwMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEwfO3tzzCsEh0iEAfkjtHXZexIsDwrN8gCmuYuh8m0dkX6T+gAFkZ2wpYEZsMCvKitT3kQA4uji7wiaAg7fhNL6NjMGEwDgYDVR0PAQH/BAQDAgEGMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFB4kCSyyK1jFspmCdDlVJ1nHnacpMB8GA1UdEQQYMBaGFHNwaWZmZTovL2V4YW1wbGUub3JnMAoGCCqGSM49BAMCA0cAMEQCIAu30TJJNBqNEKTjO1HIJ0lNqTSXJ2KR7ol0yhsuz2yvAiBAo6W+yzJyouxuT5dVMpKpFIn32ubTWzlGBG2YYYTfiQ==","tainted":false}]','[]');
CREATE TABLE entries (
        row_id integer primary key autoincrement,
        id text not null unique,
        spiffe_id text not null,
        parent_id text not null,
        similarity blob not null unique,
        selectors text not null,
        selector_count integer not null,
        federates_with text not null,
        federation_count integer not null,
        dns_names text not null,
        x509_svid_ttl integer not null,
        jwt_svid_ttl integer not null,
        admin integer not null,
        downstream integer not null,
        store_svid integer not null,
        hint text not null,
        expires_at integer not null,
        attributes text not null,
        revision_number integer not null,
        created_at integer not null
      ) strict;
INSERT INTO entries VALUES(1,'web-1','spiffe://example.org/web','spiffe://example.org/spire/agent/join_token/1574eb24-2538-4b84-a91e-cc2aadd2aa54',X'3c46def2fff74eb0c47e76bde3a5de396b674587ae82ed9eb0df58e40528a625','[["unix","uid:0"]]',1,'[]',0,'["web.test"]',600,0,0,0,0,'public',0,'{"disableX509SvidPrefetch":false,"jwtSvidIncludeJti":false}',0,1795763251);
CREATE TABLE entry_selectors (
        selector_key blob not null,
        entry_row integer not null references entries (row_id) on delete cascade,
        primary key (selector_key, entry_row)
      ) strict, without rowid;
INSERT INTO entry_selectors VALUES(X'b63c3bb4a437fa245b192861385be2b6acf01cc19618bcb40d30b051c9839e9b',1);
CREATE TABLE entry_federations (
        trust_domain text not null references bundles (trust_domain),
        entry_row integer not null references entries (row_id) on delete cascade,
        primary key (trust_domain, entry_row)
      ) strict, without rowid;
CREATE TABLE agents (
        row_id integer primary key autoincrement,
        id text not null unique,
        attestation_type text not null,
        serial_number text not null,
        expires_at integer not null,
        new_serial_number text,
        new_expires_at integer,
        can_reattest integer not null,
        banned integer not null,
        agent_version text not null,
        selectors text not null,
        selector_count integer not null
      ) strict;
INSERT INTO agents VALUES(1,'spiffe://example.org/spire/agent/join_token/1574eb24-2538-4b84-a91e-cc2aadd2aa54','join_token','cd007dc444865093bd36ac17032f8bf6',1953443286000,NULL,NULL,0,0,'0.1.0','[]',0);
CREATE TABLE agent_selectors (
        selector_key blob not null,
        agent_row integer not null references agents (row_id) on delete cascade,
        primary key (selector_key, agent_row)
      ) strict, without rowid;
CREATE TABLE join_tokens (
        digest blob not null primary key,
        expires_at integer not null
      ) strict, without rowid;
INSERT INTO join_tokens VALUES(X'adf9855a962a126cd27575f0ae61d3c34cdfc01fb5a7b4b191764640524dd9d7',1995763248311);
CREATE TABLE authorities (
        row_id integer primary key autoincrement,
        kind text not null,
        authority_id text not null,
        slot text not null,
        state text not null,
        certificate blob,
        public_key blob not null,
        not_before integer not null,
        not_after integer not null,
        upstream_authority_id text, owner text not null default '',
        unique (kind, authority_id)
      ) strict;
INSERT INTO authorities VALUES(1,'x509','1e24092cb22b58c5b299827439552759c79da729','A','active',X'30820201308201a8a003020102021100d5c8a0db4bcab2992fdd230a2c5ac966300a06082a8648ce3d0403023050310b3009060355040613025553310f300d060355040a13065350494646453130302e06035504051327323834313637323835303333383534363433353034353732353438333930313833343232333130301e170d3236313132373037303635375a170d3336313132343037303730375a3050310b3009060355040613025553310f300d060355040a13065350494646453130302e060355040513273238343136373238353033333835343634333530343537323534383339303138333432323331303059301306072a8648ce3d020106082a8648ce3d03010703420004c1f3b7b73cc2b0487488401f923b475d97b122c0f0acdf200a6b98ba1f26d1d917e93fa0005919db0a58119b0c0af2a2b53de4400e2e8e2ef089a020edf84d2fa3633061300e0603551d0f0101ff040403020106300f0603551d130101ff040530030101ff301d0603551d0e041604141e24092cb22b58c5b299827439552759c79da729301f0603551d110418301686147370696666653a2f2f6578616d706c652e6f7267300a06082a8648ce3d040302034700304402200bb7d13249341a8d10a4e33b51c827494da93497276291ee8974ca1b2ecf6caf022040a3a5becb3272a2ec6e4f97553292a91489f7dae6d35b3946046d986184df89',X'3059301306072a8648ce3d020106082a8648ce3d03010703420004c1f3b7b73cc2b0487488401f923b475d97b122c0f0acdf200a6b98ba1f26d1d917e93fa0005919db0a58119b0c0af2a2b53de4400e2e8e2ef089a020edf84d2f',1795763217822,2111123227822,NULL,'');
INSERT INTO authorities VALUES(3,'jwt','hBfLkTHGMyfUMgmTpIu1APIQHKtXi53M','A','active',NULL,X'3059301306072a8648ce3d020106082a8648ce3d030107034200046c0f8e344fd3ed833575b4920b2eafcc8575e2f37587296a465c20c92106876aecd74515894090ea3625b6d05822e9d64893d3ca6e318e716a4bf3ec6612d7c1',1795763227959,2111123227959,NULL,'');
CREATE TABLE log_head (
        epoch text not null primary key,
        number integer not null,
        compacted integer not null
      ) strict, without rowid;
INSERT INTO log_head VALUES('75de8455-6c08-4a3f-a532-2e5babc765e4',8,0);
CREATE TABLE change_log (
        number integer not null primary key,
        changed_at integer not null,
        keys text not null
      ) strict, without rowid;
INSERT INTO change_log VALUES(1,1795763227844,'[["bundle","example.org"],["authorities"]]');
INSERT INTO change_log VALUES(2,1795763227907,'[["authorities"]]');
INSERT INTO change_log VALUES(3,1795763227959,'[["bundle","example.org"],["authorities"]]');
INSERT INTO change_log VALUES(4,1795763227991,'[["authorities"]]');
INSERT INTO change_log VALUES(5,1795763251770,'[["entry","web-1"]]');
INSERT INTO change_log VALUES(6,1795763264537,'[["bundle","partner.test"]]');
INSERT INTO change_log VALUES(7,1795763286807,'[["agent","spiffe://example.org/spire/agent/join_token/1574eb24-2538-4b84-a91e-cc2aadd2aa54"]]');
INSERT INTO change_log VALUES(8,1795763287588,'[["agent","spiffe://example.org/spire/agent/join_token/1574eb24-2538-4b84-a91e-cc2aadd2aa54"]]');
CREATE TABLE leases (
        name text not null primary key,
        holder text not null,
        token integer not null,
        expires_at integer not null
      ) strict, without rowid;
INSERT INTO leases VALUES('chores','sqlite',1,0);
CREATE TABLE wrapped_keys (
        id text not null primary key,
        wrapped blob not null
      ) strict, without rowid;
CREATE TABLE replicas (
        id text not null primary key,
        name text not null,
        version text not null,
        started_at integer not null,
        seen_at integer not null,
        epoch text not null,
        number integer not null,
        facts text not null
      ) strict, without rowid;
CREATE TABLE agent_progress (
        agent_id text not null primary key,
        replica_id text not null,
        state text not null,
        epoch text not null,
        number integer not null,
        unserved text not null,
        seen_at integer not null
      ) strict, without rowid;
INSERT INTO agent_progress VALUES('spiffe://example.org/spire/agent/join_token/1574eb24-2538-4b84-a91e-cc2aadd2aa54','sqlite','written','75de8455-6c08-4a3f-a532-2e5babc765e4',7,'[]',1795763287473);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('bundles',2);
INSERT INTO sqlite_sequence VALUES('authorities',4);
INSERT INTO sqlite_sequence VALUES('entries',1);
INSERT INTO sqlite_sequence VALUES('agents',1);
CREATE INDEX entries_by_spiffe_id on entries (spiffe_id);
CREATE INDEX entries_by_parent_id on entries (parent_id);
CREATE INDEX entries_by_expiry on entries (expires_at) where expires_at > 0;
CREATE INDEX entry_selectors_by_entry on entry_selectors (entry_row);
CREATE INDEX entry_federations_by_entry on entry_federations (entry_row);
CREATE INDEX agents_by_expiry on agents (expires_at);
CREATE INDEX agent_selectors_by_agent on agent_selectors (agent_row);
CREATE INDEX join_tokens_by_expiry on join_tokens (expires_at);
COMMIT;
