"""URLs in which different parsers may see different hosts."""

OWN = "own.example"
"""The allowed host."""

ON_IT = (
    "https://own.example",
    "https://own.example/",
    "https://own.example/alice.png",
    "http://own.example/alice.png",
    "https://OWN.Example/alice.png",
    "https://own.example:443/alice.png",
    "http://own.example:80/alice.png",
    "https://own.example:/alice.png",
    "https://own.example?size=64",
    "https://own.example#top",
    "https://own.example/a@evil.test",
    "https://own.example/?next=https://evil.test/",
    "https://own.example/%2e%2e/%5c",
    "https://own.example//evil.test/a.png",
    "https://own.example/фото.png",
    "https://own.example/a[1].png",
    "https://own.example/a\u2044b",
)
"""URLs on the allowed host, in any spelling."""

ELSEWHERE = (
    # another host
    "https://evil.test/own.example",
    "https://own.example.evil.test/",
    "https://evil-own.example/",
    "https://www.own.example/",
    "https://example/",
    # userinfo
    "https://own.example@evil.test/",
    "https://own.example:443@evil.test/",
    "https://own.example%40@evil.test/",
    "https://evil.test@own.example/",
    "https://a:b@own.example/",
    "https://@own.example/",
    # another port, or none
    "https://own.example:8443/",
    "https://own.example:80/",
    "http://own.example:443/",
    "https://own.example:99999/",
    "https://own.example:443443/",
    "https://own.example:+443/",
    "https://own.example:4_43/",
    "https://own.example:４４３/",
    "https://own.example:443:443/",
    # backslashes
    "https://evil.test\\@own.example/",
    "https://own.example\\@evil.test/",
    "https://own.example\\.evil.test/",
    "https:\\\\evil.test\\own.example",
    "https:/\\evil.test/own.example",
    "https://own.example/\\evil.test",
    # control characters and white space, some of which browsers skip
    "https://evil.test\t@own.example/",
    "https://own.exa\tmple/",
    "https://own.example\n.evil.test/",
    "https://own.example\r/",
    "https://own.example/a\nb",
    "https://own.example\x00.evil.test/",
    "https://own.example\x7f/",
    "https://own.example\x85/",
    " https://own.example/",
    "https://own.example/ ",
    "https://own.example\u3000/",
    "https://own.example\u2028/",
    # a name in other letters, or one that browsers map to the allowed host
    "https://ｏｗｎ.example/",
    "https://own。example/",
    "https://own.example\u00ad/",
    "https://o\u200bwn.example/",
    "https://оwn.example/",
    "https://%6fwn.example/",
    "https://own%2eexample/",
    "https://own.example%2f.evil.test/",
    "https://xn--wn-emc.example/",
    # dots and labels
    "https://own.example./",
    "https://.own.example/",
    "https://own..example/",
    # addresses
    "https://[own.example]/",
    "https://[::1]/",
    "https://[::1]own.example/",
    "https://own.example[::1]/",
    "https://127.0.0.1/",
    # no host, or another kind of URL
    "https:///own.example/",
    "https:own.example/",
    "https:/own.example/",
    "https://?own.example",
    "https://",
    "//own.example/",
    "HTTPS://own.example/",
    "ftp://own.example/",
    "javascript://own.example/%0aalert(1)",
    "data:image/png,own.example",
    "own.example",
    "",
)
"""URLs on another host, or ambiguous ones."""
