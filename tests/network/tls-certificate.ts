/**
 * A self-signed certificate and its key, for servers of the tests alone: the key is public knowledge. Valid from
 * 2020 to 2120 for localhost, 127.0.0.1 and `ONION_HOST`. Nothing trusts it unless it is given as `ca`.
 */

/** A well-formed onion address of version 3 that nobody serves. */
export const ONION_HOST = 'zkr3yjlq45w27apdd4ffwlo7le6zw4wnwzdmbwait3q6yugfpuo6rzid.onion';

export const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgsTi47izoQQUEuqiJ
vgvVFNnOVImFtR2mDT3kGFWR8R+hRANCAASSWXy/RhZEm5TeKuj+iBlMGFxhro5v
mpkmQX80pL1S85f0svwgtnZfneSXNQ7343YlV5LyefSoUBfQ9qkBXMw6
-----END PRIVATE KEY-----
`;

export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBqjCCAVGgAwIBAgIBATAKBggqhkjOPQQDAjAVMRMwEQYDVQQDDApyZWxheS50
ZXN0MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAVMRMwEQYDVQQD
DApyZWxheS50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEkll8v0YWRJuU
3iro/ogZTBhcYa6Ob5qZJkF/NKS9UvOX9LL8ILZ2X53klzUO9+N2JVeS8nn0qFAX
0PapAVzMOqOBjzCBjDAPBgNVHRMBAf8EBTADAQH/MFoGA1UdEQRTMFGCCWxvY2Fs
aG9zdII+emtyM3lqbHE0NXcyN2FwZGQ0ZmZ3bG83bGU2enc0d253emRtYndhaXQz
cTZ5dWdmcHVvNnJ6aWQub25pb26HBH8AAAEwHQYDVR0OBBYEFJOfXNUd5+hUuIID
10Jt8hTl97/MMAoGCCqGSM49BAMCA0cAMEQCIEpzxNNvsy61GFTwAb/3Yw4BSGRw
vB0tAOa+tdLNFqvbAiA7iqxtN7fbI7+TNjOc0N0rvo954o+4X5oNJcFvqBIFiA==
-----END CERTIFICATE-----
`;
